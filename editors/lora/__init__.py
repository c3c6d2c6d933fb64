"""LoRA: low-rank fine-tuning of MLP matrices on the edit alone, through peft (Hu et al., 2022)."""
