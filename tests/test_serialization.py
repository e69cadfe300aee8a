"""Models in files: what comes back, what other programs can read, and what damage is found."""

import json
import os
import stat

import numpy as np
import pytest
import safetensors.numpy

import nbfc
from nbfc import serialization


@pytest.fixture
def net(dtype, rng):
    net = nbfc.MLP([3, 5, 2], ["tanh"], "sigmoid", dtype=dtype, seed=1)
    net.standardize_inputs(rng.normal(7, 3, (20, 3)))
    net.input_names, net.class_names = ("a", "b", "c"), ("ham", "späm")
    return net


def test_a_network_comes_back_to_the_bit(net, tmp_path, rng):
    path = tmp_path / "model.safetensors"
    nbfc.save(net, path)
    other = nbfc.load(path)
    assert repr(other) == repr(net)
    assert np.array_equal(other.parameters, net.parameters)
    assert np.array_equal(other.input_mean, net.input_mean)
    assert np.array_equal(other.input_deviation, net.input_deviation)
    assert (other.input_names, other.class_names) == (net.input_names, net.class_names)
    X = rng.normal(7, 3, (9, 3))
    assert np.array_equal(other.predict(X), net.predict(X))
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_network_without_scaling_or_names_comes_back(tmp_path):
    net = nbfc.MLP([3, 2], seed=0)
    nbfc.save(net, str(tmp_path / "model"))
    other = nbfc.load(str(tmp_path / "model"))
    assert other.input_mean is None
    assert other.class_names is None
    assert np.array_equal(other.parameters, net.parameters)


def test_equal_networks_make_equal_files(net, tmp_path):
    for name in "abcdef":
        nbfc.save(net, tmp_path / name)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_other_programs_can_read_the_tensors(net, tmp_path):
    nbfc.save(net, tmp_path / "model")
    tensors = safetensors.numpy.load_file(tmp_path / "model")
    assert sorted(tensors) == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]
    assert np.array_equal(tensors["layers.1.weight"], net.weights[1])


def test_a_saved_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    nbfc.save(nbfc.MLP([3, 2]), tmp_path / "model")
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_an_old_file_keeps_its_permissions(tmp_path):
    nbfc.save(nbfc.MLP([3, 2]), tmp_path / "model")
    (tmp_path / "model").chmod(0o600)
    nbfc.save(nbfc.MLP([3, 2]), tmp_path / "model")
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o600


def test_only_files_are_written_by_way_of_one_beside_them(net, tmp_path, monkeypatch):
    with pytest.raises(OSError, match="is a folder or a device"):
        nbfc.save(net, tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere/model'"):
        nbfc.save(net, tmp_path / "nowhere" / "model")
    moved = []
    monkeypatch.setattr(serialization.os, "replace", lambda *paths: moved.append(paths))
    nbfc.save(net, tmp_path / "model")
    assert {os.path.dirname(path) for path in moved[0]} == {str(tmp_path)}


def test_names_that_do_not_fit_are_refused(net, tmp_path):
    net.class_names = range(2)
    nbfc.save(net, tmp_path / "model")
    assert nbfc.load(tmp_path / "model").class_names == ("0", "1")
    net.class_names = "ab"
    with pytest.raises(ValueError, match="class_names is 'ab': expected 2 names"):
        nbfc.save(net, tmp_path / "model")
    net.class_names, net.input_names = None, ["a"]
    with pytest.raises(ValueError, match=r"input_names is \['a'\]: expected 3 names"):
        nbfc.save(net, tmp_path / "model")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(net, tmp_path, monkeypatch):
    path = tmp_path / "model"
    nbfc.save(net, path)
    before = path.read_bytes()
    net.parameters[:] = 0

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(serialization.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        nbfc.save(net, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_damage_anywhere_is_found(net, tmp_path, rng):
    path = tmp_path / "model"
    nbfc.save(net, path)
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(nbfc.ModelFormatError, match="is not a model of nbfc, or is damaged"):
            nbfc.load(path)
    for position in rng.permutation(len(whole))[:300]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            other = nbfc.load(path)
        except nbfc.ModelFormatError:
            continue
        # What may change unnoticed is white space or the like, never the network.
        assert np.array_equal(other.parameters, net.parameters)
        assert repr(other) == repr(net)


def rewritten(net, path, **changes):
    """Write the file again with other values in its description, and a digest that is right for them."""
    nbfc.save(net, path)
    tensors = safetensors.numpy.load_file(path)
    network = {**serialization._describe(net), **changes}
    digest = serialization._digest(network, tensors)
    description = {"format": serialization.FORMAT, "network": network, "sha256": digest}
    path.write_bytes(safetensors.numpy.save(tensors, {serialization.ENTRY: json.dumps(description)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": [3, 10**9, 2]}, r"expected .*1000000000"),
        ({"widths": "35"}, "damaged"),
        ({"widths": [3, [2]]}, "damaged"),
        ({"input_mean": None}, "its scaling is not 3 finite means"),
        ({"input_mean": [0.0, 0.0, float("nan")]}, "its scaling is not 3 finite means"),
        ({"input_mean": [10**400] * 3}, "damaged"),
        ({"input_deviation": [1.0, 0.0, 1.0]}, "a deviation of its inputs is not above 0"),
        ({"class_names": ["ham"]}, r"class_names is \['ham'\]: expected 2 names"),
        ({"activations": ["swish", "relu"]}, r"activation\[0\] is 'swish'"),
        ({"dtype": "int8"}, "its tensors are .*: expected .*int8"),
        ({"input_mean": [1.0]}, "its scaling is not 3 finite means"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(net, tmp_path, changes, message):
    rewritten(net, tmp_path / "model", **changes)
    with pytest.raises(nbfc.ModelFormatError, match=message):
        nbfc.load(tmp_path / "model")


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}))
    with pytest.raises(nbfc.ModelFormatError, match="it has no entry 'nbfc'"):
        nbfc.load(path)
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}, {"nbfc": '{"format": 99}'}))
    with pytest.raises(nbfc.ModelFormatError, match="its format is 99: this version of nbfc reads 1"):
        nbfc.load(path)
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}, {"nbfc": "[]"}))
    with pytest.raises(nbfc.ModelFormatError, match="is not a model of nbfc, or is damaged"):
        nbfc.load(path)
    path.write_text("hello, I am a text and no model")
    with pytest.raises(nbfc.ModelFormatError):
        nbfc.load(path)
    with pytest.raises(FileNotFoundError):
        nbfc.load(tmp_path / "absent")
    with pytest.raises(TypeError, match="net is 'net'"):
        nbfc.save("net", path)
