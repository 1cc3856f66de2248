"""DeepInversion: images generated from a trained network by gradient descent on their pixels.

Yin et al., Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion, CVPR 2020,
https://arxiv.org/abs/1912.08795.
"""
