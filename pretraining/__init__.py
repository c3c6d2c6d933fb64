"""Pretraining: a tiny model of any family learns a small world, so that there is something to edit.

`pretraining.run.pretrain` is the whole run; configs/pretrain.yaml holds every number of the recipe,
and docs/pretraining.md tells what it is made of and what of it held.
"""
