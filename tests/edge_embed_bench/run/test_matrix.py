"""The matrix, the machine, the ids."""

import pytest

from edge_embed.errors import InputError, ModelFileError
from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.records import machine
from edge_embed_bench.records.model import Model
from edge_embed_bench.run import session
from edge_embed_bench.run.matrix import Axes, check_lengths
from edge_embed_bench.worker import measure, token_ids


def axes(**changes):
    lists = {"targets": ["local"], "accelerators": ["cpu"], "lengths": [8], "threads": [1], "batches": [1]}
    return Axes(**(lists | changes))


def test_every_combination_once():
    cells = list(axes(lengths=[8, 16], threads=[1, 2], batches=[1, 4]).cells())
    assert len(cells) == len(set(cells)) == 8
    assert [(c.threads, c.batch, c.length) for c in cells[:3]] == [(1, 1, 8), (1, 1, 16), (1, 4, 8)]


def test_lengths_default_to_the_buckets(tiny_model):
    model = Model.open(tiny_model)
    assert check_lengths([model], None) == [8, 16, 32]
    assert check_lengths([model], [20, 9, 20]) == [20, 9]


@pytest.mark.parametrize("length", [33, 2])
def test_a_length_that_the_model_cannot_take(tiny_model, length):
    with pytest.raises(InputError, match=r"(?s)at that length.*3 to 32"):
        check_lengths([Model.open(tiny_model)], [8, length])


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match=r"(?s)unknown target.*'phone'.*local"):
        session.open_targets(axes(targets=["phone"]))
    with pytest.raises(InputError, match=r"(?s)unknown accelerator.*'abacus'.*cpu"):
        session.open_targets(axes(accelerators=["cpu", "abacus"]))


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "x.tflite").write_text("no")
    with pytest.raises(ModelFileError):
        Model.open(tmp_path / "x.tflite")


def test_ids_have_the_length_and_no_padding(wordpiece):
    record, _ = wordpiece
    batch = token_ids.batch(record, 16, 3, seed=1)
    assert [len(row) for row in batch] == [16, 16, 16]
    assert all(row[0] == 2 and row[-1] == 3 and not {0, 2, 3} & set(row[1:-1]) for row in batch)
    assert batch[:2] == token_ids.batch(record, 16, 2, seed=1)
    assert batch != token_ids.batch(record, 16, 3, seed=2)


def test_machine_of_a_board(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
    )
    (tmp_path / "proc/meminfo").write_text("MemTotal:  1024 kB\n")
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    governor.mkdir(parents=True)
    (governor / "scaling_governor").write_text("schedutil\n")
    (tmp_path / "proc/device-tree").mkdir()
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    board = machine.read_machine(tmp_path)
    assert (board.model, board.soc) == ("Raspberry Pi 5 Model B Rev 1.0", "brcm,bcm2712")
    assert (board.cpu, board.features) == ("ARM implementer 0x41 part 0xd0b", ["asimd", "asimddp"])
    assert (board.governor, board.memory_bytes) == ("schedutil", 1 << 20)
    assert "schedutil" in machine.describe(board)


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        ({}, None),
        ({"acpitz": "0", "iwlwifi": "-40000", "gone": "no number"}, None),
        ({"cpu-thermal": "48250", "battery": "61000"}, 48.25),
        ({"x86_pkg_temp": "50000", "cpu0-thermal": "51000"}, 51.0),
        ({"nvme": "30000", "ddr": "35000"}, 35.0),
    ],
)
def test_temperature(tmp_path, sensors, expected):
    for number, (name, text) in enumerate(sensors.items()):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{name}\n")
        (zone / "temp").write_text(f"{text}\n")
    assert measure.read_temperature(str(tmp_path)) == expected


def test_memory_that_nobody_knows(tmp_path, monkeypatch):
    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr("os.sysconf", unknown)
    with pytest.raises(MeasurementError, match="memory"):
        machine.read_machine(tmp_path)
