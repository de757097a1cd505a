"""Byte-level BPE text tokenizer, trained on the project's own captions and questions.

Text is lower-cased and NFC-normalised and then split into bytes, so every unicode text has a code
and comes back as its lower-case form. Id 0 is `<|endoftext|>`, which starts and ends a text; the
model adds it itself, and the same letters typed by a user are ordinary text. Tokenizers of other models are
loaded as they are, with the end mark where they have it (Phi-1.5's: 50256).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"
_SMALLEST = 257  # 256 bytes and the end mark


class TextTokenizer:
    """Text <-> ids below `size`; `end` is the id of `<|endoftext|>`, 0 in tokenizers trained here."""

    end: int = 0

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # The end mark in a user's text must not end the text: special tokens are never parsed.
        tokenizer.encode_special_tokens = True
        self.size: int = tokenizer.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> TextTokenizer:
        """A tokenizer of at most `size` entries learned from `texts`; `UserError` below 257."""
        if size < _SMALLEST:
            raise UserError(f"a vocabulary of {size} is too small; give at least {_SMALLEST}")
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFC()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path | str) -> TextTokenizer:
        """Reads a tokenizer.json. Raises `UserError` for a missing or foreign file."""
        from tokenizers import Tokenizer

        path = Path(path)
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the tokenizer {path}: {error}; is the model complete?") from error
        if content.startswith("version https://git-lfs"):
            raise UserError(f"{path} is a git-lfs pointer, not the file; run `git lfs pull`")
        try:
            tokenizer = Tokenizer.from_str(content)
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path} is not a tokenizer.json ({error}); fetch the model again") from error
        end = tokenizer.token_to_id(END)
        if end is None:
            raise UserError(f"{path} has no {END}; it belongs to another model")
        loaded = cls(tokenizer)
        loaded.end = end
        return loaded

    def save(self, path: Path | str) -> None:
        """Writes tokenizer.json: the whole file or nothing."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(self._tokenizer.to_str(), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(f"cannot write {path} ({error}); choose another folder") from error

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without an end mark; never fails, also on lone surrogates."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(clean, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; end marks are left out. Raises `UserError` for an id that is none."""
        known = [int(i) for i in ids]
        for i in known:
            if not 0 <= i < self.size:
                raise UserError(f"{i} is no text id; ids go from 0 to {self.size - 1}")
        return str(self._tokenizer.decode([i for i in known if i != self.end], skip_special_tokens=False))
