"""Sources of samples of earlier steps: one module a source, found by name."""

from cssegcore.method.replay._base import ExemplarRequest as ExemplarRequest
from cssegcore.method.replay._base import GeneratedImages as GeneratedImages
from cssegcore.method.replay._base import Replay as Replay
from cssegcore.method.replay._base import SynthesisRequest as SynthesisRequest
