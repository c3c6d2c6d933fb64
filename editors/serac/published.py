"""Which networks the published experiments put beside a base model; readable without torch."""

FRESH = "fresh"  # a small network over the base model's token embeddings instead of a name
AUTO = "auto"
# Counterfactual models, by the kind of the base's language model and the size of its vocabulary.
COUNTERFACTUAL = {("opt", 50272): "facebook/opt-125m", ("llama", 32000): "JackFram/llama-160m"}
ENCODER = "distilbert-base-cased"  # for all of them
_MORE = 1000  # ids that a multimodal model may have beyond its language model's


def published_counterfactual(kind: str, vocabulary: int) -> str:
    """The published counterfactual model of a base; `fresh` for a base of another vocabulary.

    Args:
        kind: `model_type` of the base's language model.
        vocabulary: width of its logits; LLaVA's is LLaMA's with a few ids more.
    """
    for (name, size), path in COUNTERFACTUAL.items():
        if kind == name and size <= vocabulary < size + _MORE:
            return path
    return FRESH


def published_encoder(kind: str, vocabulary: int) -> str:
    """The published scope encoder; `fresh` for a base that was not in those experiments."""
    return FRESH if published_counterfactual(kind, vocabulary) == FRESH else ENCODER
