"""A configuration made small keeps its kind, and what no rule knows."""

from __future__ import annotations

from ko_cpt_callbacks.recipe.smoke import small_config


def test_a_head_with_a_latent_part_keeps_its_width() -> None:
    """There ``head_dim`` is another name of a part of a head; elsewhere it is made small like the other sizes."""
    sizes = {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "odd": 7}

    assert small_config(sizes) == {
        "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "odd": 7,
    }  # fmt: skip
    assert small_config({**sizes, "qk_rope_head_dim": 64})["head_dim"] == 128


def test_factors_of_a_wide_head_go() -> None:
    """Where the rotation has a factor for each pair of a head's dimensions it is a plain one, of each kind of layer."""
    factors = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 2.0]}
    plain = {"rope_type": "default", "rope_theta": 1e4}
    linear = {"rope_type": "linear", "factor": 8.0}

    assert small_config({"rope_scaling": factors}) == {"rope_scaling": plain}
    assert small_config({"rope_parameters": {"full": factors, "sliding": linear}}) == {
        "rope_parameters": {"full": plain, "sliding": linear}
    }


def test_something_of_each_layer() -> None:
    """A list of as many as there were layers keeps the first ones and the last."""
    kinds = ["sliding"] * 7 + ["full"]

    assert small_config({"num_hidden_layers": 8, "layer_types": kinds, "other": [1, 2]}) == {
        "num_hidden_layers": 4, "layer_types": ["sliding", "sliding", "sliding", "full"], "other": [1, 2],
    }  # fmt: skip
