"""Pictures for a language model that exists: a small tower, a projector, and what is read then.

tower       stage 0: a CLIP vision tower learns to tell the pictured entities apart
alignment   the projector, with tower and language model frozen, in one of three settings
reading     names and facts that the language model reads from pictures
"""

from pretraining.vision.alignment import AlignmentResult, align
from pretraining.vision.reading import measure_reading, reading_table
from pretraining.vision.tower import TowerResult, train_tower

__all__ = [
    "AlignmentResult",
    "TowerResult",
    "align",
    "measure_reading",
    "reading_table",
    "train_tower",
]
