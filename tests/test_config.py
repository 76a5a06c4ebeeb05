from pathlib import Path

import pytest

from kellgren.config import read_study
from kellgren.faults import InputError

ROOT = Path(__file__).parents[1]
LEAST = 'name = "a"\n[cohort]\ntable = "c.csv"\n[backbones.resnet3d]\n'


def read(tmp_path: Path, text: str):
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return read_study(path)


def test_defaults_are_the_papers_protocol(tmp_path):
    study = read(tmp_path, LEAST + "[backbones.m3t]\n")
    training = study.training
    assert (training.epochs, training.batch_size, training.lr) == (100, 2, 1e-4)
    assert (training.weight_decay, training.lambda_oa, training.lambda_kl) == (1e-4, 1, 1)
    assert training.augmentation.off
    assert study.backbones["resnet3d"].grid == (160, 256, 256)
    assert study.backbones["m3t"].grid == (128, 128, 128)
    assert study.supervisions == ("single_oa", "single_kl", "dual")
    assert study.cohort.cartilage == (2, 4, 5)


def test_paths_are_relative_to_the_study_file(tmp_path):
    assert read(tmp_path, LEAST).cohort.table == tmp_path / "c.csv"


@pytest.mark.parametrize("name", ["phantom.toml", "paper.toml", "benchmark_phantom.toml"])
def test_the_study_files_of_the_repository_are_sound(name):
    assert read_study(ROOT / "studies" / name).name == name.removesuffix(".toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "[training]\nepoch = 3\n", "key 'training.epoch'.*did you mean 'epochs'"),
        (LEAST + "[training.augmentation]\nrotation = 5\n", "did you mean 'rotation_deg'"),
        (
            LEAST + "[training.augmentation]\nelastic_mm = 6\n",
            "elastic_mm.*less than or equal to 5",
        ),
        (LEAST + "[training.augmentation]\nmirror = true\n", "'training.augmentation.mirror'"),
        (LEAST + "[radiomics]\nsystems = ['image']\n[radiomics.image]\nwidht = 8\n", "'width'"),
        (LEAST + "[trainign]\n", "key 'trainign'.*did you mean 'training'"),
        (LEAST + "[training]\nlr = -1\n", "training.lr.*found -1.*greater than 0"),
        (LEAST + "[training]\nlr = nan\n", "training.lr.*finite"),
        (LEAST + '[training]\nepochs = "many"\n', "training.epochs.*'many'.*integer"),
        (LEAST + "seeds = [1, 1]\n", "backbones.resnet3d.seeds.*unknown key"),
        ("seeds = [1, 1]\n" + LEAST, "seeds .1, 1. repeat"),
        (LEAST + "[backbones.resnet4d]\n", "resnet4d is unknown.*'resnet3d'"),
        (LEAST + "[backbones.m3t]\ngrid = [32, 32, 40]\n", "m3t.grid.*cube"),
        ('name = "a"\n[cohort]\n[backbones.m3t]\n', "give either 'table' or"),
        ('name = "a/b"\n[cohort]\ntable = "c"\n[backbones.m3t]\n', "key 'name'"),
        ('name = "a"\nname = "b"\n', "TOML"),
        (LEAST + "[training]\nlambda_oa = 0\nlambda_kl = 0\n", "are both 0"),
    ],
)
def test_a_bad_study_file_is_refused_with_the_key_and_the_cure(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_missing_study_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no\.toml: found no such file"):
        read_study(tmp_path / "no.toml")
