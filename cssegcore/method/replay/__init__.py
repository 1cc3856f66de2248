"""What a step sees of earlier ones: one module a way, found by name."""

from cssegcore.method.replay._base import ExemplarRequest as ExemplarRequest
from cssegcore.method.replay._base import GeneratedImages as GeneratedImages
from cssegcore.method.replay._base import Replay as Replay
from cssegcore.method.replay._base import SynthesisRequest as SynthesisRequest
