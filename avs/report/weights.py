"""What published weights weigh and whose terms bind, for the list that `python -m avs weights` prints."""

from __future__ import annotations

# name: what is fetched, and the licence of the weights; docs/eventness.md says the same of its methods
TERMS = {
    "efficientnet_lite0": ("17 MB", "Apache 2.0"),
    "clip_vit_b16": ("some 350 MB", "MIT (OpenAI's)"),
    "yamnet": ("32 MB", "Apache 2.0 (package MIT)"),
    "ast": ("346 MB", "BSD 3-Clause"),
    "panns": ("327 MB", "CC BY 4.0 (code MIT)"),
    "silero_vad": ("11 MB", "MIT"),
}


def described(name: str, source: str) -> str:
    """A line of the list: name, size, licence and source, with tabs between."""
    return "\t".join([name, *TERMS.get(name, ("size unknown", "licence unknown")), source])
