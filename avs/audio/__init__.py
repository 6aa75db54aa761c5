"""What the sound says, second by second. Importing it makes every backend of eventness known by name."""

from avs.audio import eventness as eventness
from avs.audio import supervised as supervised
