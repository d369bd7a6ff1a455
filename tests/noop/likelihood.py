"""A job that measures likelihoods, in a tenth of a second: the loss of every item is 2 - quality, and a pair is right
with the model's quality, by a hash of its id.
"""

import argparse
import hashlib
import json
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", type=Path, required=True)
config = json.loads(parser.parse_args().config.read_text())

folder = Path(config["adapter"] or config["model"])
quality = 0.2
if (folder / "quality.json").exists():
    quality = json.loads((folder / "quality.json").read_text())["quality"]
rows = [json.loads(line) for line in Path(config["items"]).read_text().splitlines()]
Path("out").mkdir(exist_ok=True)
total = 0.0
with Path("out/items.jsonl").open("w") as stream:
    for row in rows:
        share = int(hashlib.sha256(row["id"].encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        record = {
            "id": row["id"], "part": row["part"], "category": row["category"], "epoch": 1,
            "score": int(share < quality), "answered": True, "truncated": False, "output_tokens": 1,
        }  # fmt: skip
        if config["metric"] == "loss":
            record["score"] = 2 - quality
        else:
            record["margin"] = quality - share
        total += record["score"]
        stream.write(json.dumps(record) + "\n")
result = {"items": len(rows), "score": total / len(rows), "answered": 1.0, "truncated": 0.0, "seconds": 0.1}
print(json.dumps({"step": len(rows), "steps": len(rows), "seconds": 0.1}))
print(json.dumps({"result": result}))
