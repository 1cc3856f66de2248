"""The embedded dataset: photograph-like scenes of eight kinds of objects, made from a seed.

A class is told by its outline and its pattern; colours, size, angle and light are drawn at random.
Every class occurs beside every other, as class-incremental learning needs it: an image of one step
also holds objects of earlier and later steps, which its labels call background.
"""

from cssegcore.data.shapes.dataset import make_dataset as make_dataset
from cssegcore.data.shapes.scene import make_scene as make_scene
from cssegcore.data.shapes.sprites import CLASSES as CLASSES
