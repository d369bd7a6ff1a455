"""A small evaluate.py with PostTrainBench's command line and JSON: GPQA-like items, asked with transformers."""

import argparse
import json
import math
import random
import re
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model-path", default="final_model")
parser.add_argument("--limit", type=int, default=50)
parser.add_argument("--json-output-file")
parser.add_argument("--max-tokens", type=int, default=16)
parser.add_argument("--templates-dir", default="templates/")
args = parser.parse_args()

rows = [json.loads(line) for line in Path("@ITEMS@").read_text().splitlines()]
rows = rows if args.limit == -1 else rows[: args.limit]
template = (Path(args.templates_dir) / "llama3.jinja").read_text()
tokenizer = AutoTokenizer.from_pretrained(args.model_path, padding_side="left")
model = AutoModelForCausalLM.from_pretrained(args.model_path)
columns = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
prompts, right = [], []
for number, row in enumerate(rows):
    order = random.Random(number).sample(range(4), 4)
    choices = "\n".join(f"{'ABCD'[at]}) {row[columns[column]]}" for at, column in enumerate(order))
    asked = f"{row['Question']}\n\n{choices}\n\nThe last line of your response is 'ANSWER: $LETTER'."
    chat = [{"role": "user", "content": asked}]
    prompts.append(
        tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True)
    )
    right.append("ABCD"[order.index(0)])
inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
with torch.inference_mode():
    written = model.generate(**inputs, max_new_tokens=args.max_tokens)
texts = tokenizer.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
said = [re.findall(r"ANSWER: ([A-D])", text) for text in texts]
marks = [bool(letters) and letters[-1] == letter for letters, letter in zip(said, right, strict=True)]
mean = sum(marks) / len(marks)
stderr = math.sqrt(mean * (1 - mean) / (len(marks) - 1))
Path(args.json_output_file).write_text(json.dumps({"accuracy": mean, "stderr": stderr}, indent=2))
