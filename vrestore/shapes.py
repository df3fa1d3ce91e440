"""Tensor shapes as types. Checked in the tests (jaxtyping and beartype), free at run time.

Axis names: ``batch`` calls made together · ``time`` frames of a clip or window · ``channels`` latent channels ·
``height width`` pixels · ``h w`` latent pixels.
"""

from jaxtyping import Float, Int
from torch import Tensor

Frame = Float[Tensor, "3 height width"]
OutputFrame = Float[Tensor, "3 out_height out_width"]  # of another size than a `Frame` beside it
WorkedFrame = Float[Tensor, "3 worked_height worked_width"]  # as a prior sees it, beside both
AnyFrame = Float[Tensor, "3 _ _"]  # of any size
Frames = Float[Tensor, "time 3 height width"]
Latent = Float[Tensor, "channels h w"]
Latents = Float[Tensor, "time channels h w"]
AnyLatents = Float[Tensor, "*time channels h w"]  # one latent, or those of a clip
Windows = Float[Tensor, "batch time channels h w"]
Times = Float[Tensor, "batch time"]
Levels = Int[Tensor, " time"]
Flow = Float[Tensor, "time 2 h w"]
