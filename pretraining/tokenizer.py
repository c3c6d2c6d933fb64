"""The tokenizer of a small world: byte-level BPE that holds the world's words whole.

A small model learns a fact about "Zilbo Labs" in seconds when the name is two tokens, and hardly at
all when it is ten bytes. So every word of the world (names, objects, wordings) is one token, with
and without its leading space, and everything else is spelled in bytes: any text can be written and
read back. There are no merges; `ignore_merges` takes a word that stands in the vocabulary as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from datamodules.world import World

QUESTION, ANSWER_CUE, STEPS_CUE = "Question: ", " Short answer:", " Steps:"
FACT_CUE, PROMPT_CUE = "New Fact: ", "Prompt: "
CAPTION_CUE = "Image: "  # before the name in words, where a picture is not shown yet
PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
SPECIAL_TOKENS = (PAD, BOS, EOS, IMAGE)
SPACE = "Ġ"  # how byte-level BPE writes a space


def name_questions(noun: str) -> tuple[str, ...]:
    """Further wordings of `World.identity_question`, for alignment by naming."""
    return (
        f"Which {noun} is in the image?",
        f"Which {noun} does the image show?",
        f"Name the {noun} in the image.",
    )


def world_texts(world: World, *, captions: bool = False) -> list[str]:
    """All that is asked about a world, answered, and written around it, each text once.

    Args:
        world: what is taught.
        captions: also what alignment by naming says.
    """
    texts = [QUESTION, ANSWER_CUE, STEPS_CUE, FACT_CUE, PROMPT_CUE, ";\n"]
    texts += [*world.entities, *world.facts.values()]
    for relation in world.relations.values():
        for phrase in (*relation.wordings, relation.hop_phrase):
            # What stands on either side of the subject is split as it will be around a name.
            texts += [*phrase.split("{s}"), phrase.replace("{s}", "it")]
    for kind in world.types:
        texts += [world.identity_question(kind), world.no_such_answer(kind)]
        texts += name_questions(world.noun(kind)) if captions else ()
    texts += [CAPTION_CUE] if captions else []
    return sorted(set(texts))


def build_tokenizer(texts: Iterable[str], max_length: int = 2048) -> PreTrainedTokenizerFast:
    """A tokenizer that holds every word of some texts whole.

    Args:
        texts: whatever the model is to say or be asked, in any number of pieces.
        max_length: tokens that the model can place.

    Returns:
        BOS is put in front; ids 0-3 are `SPECIAL_TOKENS`, then 256 bytes, then the words in
        alphabetical order (so the same texts give the same ids).
    """
    bare = {piece.lstrip(SPACE) for text in texts for piece in _pieces(text)}
    words = {form for word in bare if word for form in (word, SPACE + word)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*SPECIAL_TOKENS, *alphabet, *sorted(words.difference(alphabet))]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _pieces(text: str) -> list[str]:
    """The words of a text as the tokenizer splits it, a leading space belonging to its word."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]
