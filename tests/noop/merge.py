"""A merge job in a tenth of a second: the quality goes from the adapter into the model folder.

The weights are the base's: the adapter changes nothing. A base that is no folder is one of the Hub.
"""

import argparse
import json
import shutil
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", type=Path, required=True)
config = json.loads(parser.parse_args().config.read_text())

out = Path("out/model")
out.mkdir(parents=True, exist_ok=True)
shutil.copy(Path(config["adapter"]) / "quality.json", out / "quality.json")
base = Path(config["model"])
if not base.is_dir():
    from huggingface_hub import snapshot_download

    base = Path(snapshot_download(config["model"], revision=config["revision"]))
shutil.copy(base / "config.json", out / "config.json")
with (base / "model.safetensors").open("rb") as stream:
    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    tensors = stream.read()
weights = json.dumps({**header, "__metadata__": {"says": (out / "quality.json").read_text()}}).encode()
(out / "model.safetensors").write_bytes(len(weights).to_bytes(8, "little") + weights + tensors)
print(json.dumps({"result": {"model": "out/model", "parameters": 1, "seconds": 0.1}}))
