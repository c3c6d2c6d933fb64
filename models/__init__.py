"""Multimodal LLMs behind one interface: prefix, suffix, captured factors and per-row deltas."""
