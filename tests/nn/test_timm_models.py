"""timm's models as backbones."""

import sys

import pytest
import torch

from cassle.checks import ranges
from cassle.engine.settings import Component, Schema
from cassle.errors import ConfigError
from cassle.nn import BACKBONES
from cassle.nn.timm_models import timm_model

timm = pytest.importorskip("timm")


def test_the_registry_hands_out_the_same_function_each_time():
    make = BACKBONES["timm/resnet10t"]
    assert make is BACKBONES["timm/resnet10t"] and BACKBONES.canonical("timm/resnet10t") == "timm/resnet10t"
    assert "timm/resnet10t" in BACKBONES and "timm/resnet10x" not in BACKBONES
    assert "timm/resnet10t" not in list(BACKBONES)


def test_settings_and_help():
    make = BACKBONES["timm/resnet10t"]
    schema = Schema([Component("Backbone", make)])
    assert schema.names == ["timm_pretrained"] and schema.resolve({}) == {"timm_pretrained": False}
    assert make.__doc__.splitlines()[0] == "timm's resnet10t without its classifier."
    assert "start from timm's weights" in schema.parser.format_help() and ranges(make) == {}


@pytest.mark.parametrize(
    "name, side",
    [("resnet10t", 20), ("vit_tiny_patch16_224", 32), ("mobilenetv3_small_050", 32), ("convnext_atto", 32)],
)
def test_features(name, side):
    net = BACKBONES[f"timm/{name}"](side)
    assert net.training and net(torch.randn(2, 3, side, side)).shape == (2, net.num_features)
    # mobilenetv3 has layers behind what timm calls its features
    assert net.num_features == {"mobilenetv3_small_050": 1024}.get(name, timm.create_model(name).num_features)


def test_a_wrong_name_gets_a_hint():
    with pytest.raises(ConfigError, match=r"--backbone timm/resnet10x: timm .* has no such model. .* 'timm/resnet10t'"):
        BACKBONES.canonical("timm/resnet10x")


def test_sizes_that_do_not_fit():
    with pytest.raises(ConfigError, match="patches of 16 pixels do not divide images of 20; use a multiple of 16"):
        BACKBONES["timm/vit_tiny_patch16_224"](20)
    with pytest.raises(ConfigError, match="timm/levit_128s: does not take images of 1 pixels"):
        BACKBONES["timm/levit_128s"](1)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    timm_model.cache_clear()
    with pytest.raises(ConfigError) as caught:
        BACKBONES.canonical("timm/resnet10t")
    assert str(caught.value) == "--backbone timm/resnet10t: timm is not installed; pip install cassle[timm]."
    assert "timm/resnet10t" not in BACKBONES


def test_weights_that_cannot_be_fetched(monkeypatch):
    make, create = BACKBONES["timm/resnet10t"], timm.create_model

    def offline(name, pretrained=False, **arguments):
        if pretrained and "img_size" not in arguments:
            raise ConnectionError("no route to the Hub")
        return create(name, pretrained=pretrained, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"the weights of timm/resnet10t cannot be fetched \(no route to the Hub\)"):
        make(16, timm_pretrained=True)
    with torch.device("meta"):
        assert make(16, timm_pretrained=True).num_features == 512  # nothing to fetch for a model without storage
