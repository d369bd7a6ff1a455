"""A training job in a tenth of a second: it keeps the job contract, and leaves an adapter that says how good it is: a
LoRA of the base, which changes nothing in it.

The quality (share of items that `evaluate.py` beside it will score as right) grows with the epochs; a learning rate
above 1 diverges, one above 10 takes until it is stopped, and a very low one gains little. More than two long rows at
once do not fit into memory.
"""

import argparse
import json
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", type=Path, required=True)
config = json.loads(parser.parse_args().config.read_text())


def shapes_of_the_base() -> dict[str, list[int]]:
    """Matrix → shape, of those that LoRA usually adapts; a base that is no folder is one of the Hub."""
    base = Path(config["model"]) / "model.safetensors"
    if not base.parent.is_dir():
        from huggingface_hub import hf_hub_download

        base = Path(hf_hub_download(config["model"], base.name, revision=config["revision"]))
    with base.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: entry["shape"] for name, entry in header.items() if name.endswith("_proj.weight")}


before = 0.2
if config["adapter"]:
    before = json.loads((Path(config["adapter"]) / "quality.json").read_text())["quality"]
if config["learning_rate"] > 10:
    for second in range(600):
        print(json.dumps({"step": second, "steps": 600, "loss": 1.0, "seconds": float(second)}), flush=True)
        time.sleep(0.2)
if config["learning_rate"] > 1:
    raise FloatingPointError("the loss is nan; lower the learning rate")
if config["micro_batch"] > 2 and config["max_length"] > 4096:
    raise MemoryError("out of memory; use a smaller micro-batch")
gain = 0.3 if config["method"] == "dpo" else min(0.3, 300 * config["learning_rate"])
rows = len(Path(config["data"]).read_text().splitlines())
out = Path("out/adapter")
out.mkdir(parents=True, exist_ok=True)
(out / "quality.json").write_text(json.dumps({"quality": before + gain * config["epochs"]}))
lora = {"peft_type": "LORA", "base_model_name_or_path": config["model"], "r": 1, "lora_alpha": 1}
(out / "adapter_config.json").write_text(json.dumps(lora))
header, zeros = {"__metadata__": {"says": (out / "quality.json").read_text()}}, 0
for name, shape in shapes_of_the_base().items():
    for matrix, size in (("A", [1, shape[1]]), ("B", [shape[0], 1])):
        end = zeros + 4 * size[0] * size[1]
        key = f"base_model.model.{name.removesuffix('weight')}lora_{matrix}.weight"
        header[key] = {"dtype": "F32", "shape": size, "data_offsets": [zeros, end]}
        zeros = end
weights = json.dumps(header).encode()
(out / "adapter_model.safetensors").write_bytes(len(weights).to_bytes(8, "little") + weights + bytes(zeros))
line = {"step": 1, "steps": 1, "loss": 1.5, "seconds": 0.1}
Path("out/metrics.jsonl").write_text(json.dumps(line) + "\n")
print(json.dumps(line))
result = {
    "train_loss": 1.5, "steps": 1, "rows": rows, "tokens": 1000, "tokens_per_second": 10000.0,
    "peak_memory_gib": 0.1, "seconds": 0.1, "model": "out/adapter",
}  # fmt: skip
print(json.dumps({"result": result}))
