"""What each head's training feeds on, by name."""

from vrestore.weights.recipe.diets.deblurring import Deblurring
from vrestore.weights.recipe.diets.interpolation import Interpolation
from vrestore.weights.recipe.diets.restoration import Restoration
from vrestore.weights.recipe.pool import Diet

DIETS: dict[str, Diet] = {diet.name: diet for diet in (Restoration(), Deblurring(), Interpolation())}
