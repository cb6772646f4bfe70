"""A word-level vocabulary: every word that a prompt or the catalogue can need, and nothing else."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split

from lib import prompts
from lib.scenes.catalogue import elements


def words() -> list[str]:
    """Every word of the prompts and of the catalogue, in alphabetical order."""
    texts = [
        "user model and on in front of nothing , . : ?",
        prompts.DESCRIBE,
        prompts.DESCRIBE_GENERALLY,
        prompts.STEERING,
        *prompts.TOP_K.values(),
    ]
    for element in elements().values():
        texts += [element.name, element.phrase, *element.synonyms]
    splitter = word_splitter()
    return sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text.lower())})


def word_splitter() -> Split:
    """Words, hyphenated ones whole; special tokens; punctuation marks one by one."""
    return Split(Regex(r"<[a-z_]+>|[a-z]+(?:-[a-z]+)?|[^\sa-z]"), behavior="removed", invert=True)


def word_tokenizer(vocabulary: list[str]) -> Tokenizer:
    """A tokenizer whose ids are places in ``vocabulary``; it must hold ``<unk>``."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = word_splitter()
    return tokenizer
