"""Stands in for evaluate.py, with its command line and JSON: the score is what the stand-in for a merge has left."""

import argparse
import json
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--model-path", default="final_model")
parser.add_argument("--limit", type=int, default=50)
parser.add_argument("--json-output-file")
parser.add_argument("--max-tokens", type=int, default=16000)
parser.add_argument("--templates-dir", default="templates/")
args = parser.parse_args()

counter = Path("@COUNTER@")
attempt = int(counter.read_text()) + 1 if counter.exists() else 1
counter.write_text(str(attempt))
if attempt <= int("@FAILS@"):
    sys.exit("CUDA error: out of memory")
assert args.limit == -1, args.limit
assert list(Path(args.templates_dir).glob("*.jinja"))
with next(Path(args.model_path).glob("*.safetensors")).open("rb") as stream:
    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
quality = json.loads(header.get("__metadata__", {}).get("says", '{"quality": 0.2}'))["quality"]
Path(args.json_output_file).write_text(json.dumps({"accuracy": min(quality, 1.0), "stderr": 0.05}))
