"""A job that answers prompts, in a tenth of a second: each is right with the model's quality, by a hash of its id.

What is right stands beside the prompts as `expected`, where jobs.py puts it: a real job is not told.
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
rows = [json.loads(line) for line in Path(config["prompts"]).read_text().splitlines()]
Path("out").mkdir(exist_ok=True)
with Path("out/answers.jsonl").open("w") as stream:
    for row in rows:
        share = int(hashlib.sha256(row["id"].encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        output = f"ANSWER: {row['expected']}" if share < quality else "I do not know."
        answer = {"id": row["id"], "epoch": row["epoch"], "output": output, "output_tokens": 1, "truncated": False}
        stream.write(json.dumps(answer) + "\n")
print(json.dumps({"step": len(rows), "steps": len(rows), "seconds": 0.1}))
print(json.dumps({"result": {"prompts": len(rows), "truncated": 0.0, "seconds": 0.1}}))
