"""Training scripts of a person's own, as texts: a sound one, and ones with faults that only a run shows."""

SOUND = """
import argparse
import json

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True)
folder = parser.parse_args().config
config = json.load(open(folder))
rows = [json.loads(line) for line in open(folder.replace("config.json", config["data"]))]
tokenizer = AutoTokenizer.from_pretrained(config["model"])
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(config["model"]),
    args=SFTConfig(
        output_dir="out", max_length=config["max_length"], per_device_train_batch_size=2, report_to=[],
        save_strategy="no", use_cpu=True, bf16=False, completion_only_loss=True, max_steps=50,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=4, task_type="CAUSAL_LM"),
)
trainer.train()
trainer.model.save_pretrained("out/adapter")
print(json.dumps({"result": {"model": "out/adapter"}}))
"""

FLAWED = """
import argparse
import json

from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments,
)

parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True)
config = json.load(open(parser.parse_args().config))
tokenizer = AutoTokenizer.from_pretrained(config["model"])
tokenizer.pad_token = tokenizer.eos_token
tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "model")
tokenizer.add_tokens([f"<think{number}>" for number in range(3)])
rows = [json.loads(line) for line in open(config["data"])]
texts = [tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False) for row in rows]
model = AutoModelForCausalLM.from_pretrained(config["model"])
model.resize_token_embeddings(len(tokenizer))
model = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM"))
trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir="out", report_to=[], save_strategy="no", use_cpu=True, max_steps=2),
    train_dataset=[{"input_ids": tokenizer(text.strip())["input_ids"]} for text in texts],
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    processing_class=tokenizer,
)
setattr(trainer.args, "completion_only_loss", True)
trainer.train()
model.save_pretrained("out/adapter")
print(json.dumps({"result": {"model": "out/adapter"}}))
"""

CACHED = (
    SOUND.replace(
        "trainer.train()",
        """
class Cached(SFTTrainer):
    def compute_loss(self, model, inputs, **rest):
        outputs = model(**{**inputs, "use_cache": True, "past_key_values": DynamicCache(config=model.config)})
        return outputs.loss

trainer.__class__ = Cached
trainer.train()
""",
    )
    .replace("AutoTokenizer\n", "AutoTokenizer, DynamicCache\n")
    .replace("max_steps=50", "packing=True, max_steps=50")
)
"""Packs rows, and computes the loss with a cache."""
