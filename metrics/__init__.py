"""Pure metric functions, their torchmetrics classes and bootstrap intervals."""
