"""Which block of a network a tensor belongs to, told from its name."""

from __future__ import annotations

import re
from typing import Final

_BEFORE: Final = r"^(?P<before>(?:.*?[._])?)"

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(_BEFORE + pattern), group)
    for pattern, group in (
        # SongUNet and its kin (EDM, EDM2): a dictionary of blocks, `enc.16x16_block0`, `dec.8x8_in0`.
        (r"(?P<side>enc|dec)\.\d+x\d+_aux", r"{side}.aux"),
        (r"(?P<block>(?:enc|dec)\.\d+x\d+_[^.]+)\.", r"{block}"),
        (r"map_(?:noise|label|augment|layer\d+)\b", r"map"),
        (r"emb_(?:fourier|noise|label)\b", r"emb"),
        # OpenAI's U-Nets, also with underscores for dots, as single-file LoRA has them.
        (r"(?P<side>input_blocks|output_blocks)[._](?P<number>\d+)[._]", r"{side}.{number}"),
        (r"middle_block[._]", r"middle_block"),
        # diffusers' U-Nets and autoencoders.
        (r"(?P<side>down_blocks|up_blocks)[._](?P<number>\d+)[._]", r"{side}.{number}"),
        (r"mid_block[._]", r"mid_block"),
        (r"(?P<name>time_embed|time_embedding|label_emb|class_embedding|add_embedding|temb)\.", r"{name}"),
        # The U-Net of the DDPM line.
        (r"(?P<side>down|up)\.(?P<number>\d+)\.", r"{side}.{number}"),
        (r"mid\.(?:block|attn)_\d+\.", r"mid"),
        # Transformers and whatever numbers its layers.
        (
            r"(?P<list>layers?|blocks?|h|resblocks|transformer_blocks|single_transformer_blocks|stages)"
            r"[._](?P<number>\d+)[._]",
            r"{list}.{number}",
        ),
    )
)

_FIRST_NUMBER: Final = re.compile(r"^(?P<block>(?:[^.]+\.)*?\d+)\.")
_OUTPUT: Final = re.compile(r"^out\.\d+\.")


def block_of(name: str) -> str:
    """The block that tensor `name` belongs to.

    Known are the names of SongUNet (`enc.16x16_block0`), of OpenAI's (`input_blocks.3`, `middle_block`), of diffusers'
    (`down_blocks.0`, `mid_block`) and of the DDPM line's U-Nets (`down.0`, `mid`), and numbered lists of layers
    (`encoder.layers.3`). Of any other name the part up to the first number is taken (`net.2` of ``net.2.weight``), and
    without a number the first part (``head`` of ``head.weight``). What stands before a block's name stays part of it.
    """
    for pattern, group in _RULES:
        found = pattern.match(name)
        if found:
            return found["before"] + group.format(**found.groupdict())
    if _OUTPUT.match(name):  # norm and convolution of one head
        return "out"
    numbered = _FIRST_NUMBER.match(name)
    return numbered["block"] if numbered else name.partition(".")[0]
