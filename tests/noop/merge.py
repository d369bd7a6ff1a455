"""A merge job in a tenth of a second: the quality goes from the adapter into the model folder.

A base that is no folder is one of the Hub, of which the config is fetched at its commit.
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
base = Path(config["model"]) / "config.json"
if not base.parent.is_dir():
    from huggingface_hub import hf_hub_download

    base = Path(hf_hub_download(config["model"], "config.json", revision=config["revision"]))
shutil.copy(base, out / "config.json")
weights = json.dumps({"__metadata__": {"says": (out / "quality.json").read_text()}}).encode()
(out / "model.safetensors").write_bytes(len(weights).to_bytes(8, "little") + weights)
print(json.dumps({"result": {"model": "out/model", "parameters": 1, "seconds": 0.1}}))
