"""What does not fit is one clear line and exit code 2; nothing is taken by default in silence."""

import re
import runpy
import shlex
from pathlib import Path
from typing import ClassVar

import pytest

import nst_ops.config
from nst_ops.cli import COMMANDS
from nst_ops.config import (
    EvaluateConfig,
    JobConfig,
    StylizeConfig,
    TrainJohnsonConfig,
    TrainVitAdainConfig,
    parse_config,
)
from nst_ops.config.base import StrictModel

ROOT = Path(__file__).parents[1]
PATHS = ["--input", "in", "--output", "out"]
TRAINING = ("--data.content", "p", "--style", "s", "--output", "o")


def parse(*arguments: str) -> StylizeConfig:
    return parse_config(StylizeConfig, list(arguments))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line that is printed; it is one, and the exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").strip()


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_the_command_line_wins_over_file_and_defaults(yaml_file):
    path = yaml_file("input: a\noutput: b\nvideo:\n  crf: 30\n  preset: fast\nimages: {quality: 50}\n")
    config = parse("--config", path, "--input", "c", "--video.crf", "20", "--dry-run")
    assert (config.input, config.output, config.dry_run) == ("c", "b", True)
    assert (config.video.crf, config.video.preset, config.video.keep_damaged) == (20, "fast", False)
    assert (config.images.quality, config.units.images) == (50, 100)


@pytest.mark.parametrize("flag", ["--dry-run", "--dry_run", "--retry-failed", "--overwrite"])
def test_hyphens_and_underscores_are_the_same(flag):
    config = parse(*PATHS, flag)
    names = {"dry_run", "retry_failed", "overwrite"}
    assert {name for name in names if getattr(config, name)} == {flag[2:].replace("-", "_")}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dry-run", "true"], True),
        (["--dry_run", "False"], False),
        (["--dry-run=true"], True),
        (["--dry-run=false"], False),
        (["--no-dry-run"], False),
        (["--no-dry_run"], False),
    ],
)
def test_a_switch_may_be_given_its_value(arguments, expected):
    config = parse("--input", "true", "--output", "b", *arguments)
    assert (config.input, config.dry_run) == ("true", expected)


def test_values_keep_their_hyphens():
    config = parse("--input=my-in-put", "--output", "s3://a-b/c-d", "--video.keep-damaged", "--ray-address=a-b:1")
    assert (config.input, config.output) == ("my-in-put", "s3://a-b/c-d")
    assert config.video.keep_damaged
    assert config.ray_address == "a-b:1"


def test_null_takes_a_value_of_the_file_back(yaml_file):
    path = yaml_file("resize: {max_side: 720}")
    assert parse("--config", path, *PATHS).resize.max_side == 720
    assert parse("--config", path, *PATHS, "--resize.max_side", "null").resize.max_side is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ouput", "x"], "unknown option '--ouput', did you mean '--output'?"),
        (["--video.crv", "3"], "unknown option '--video.crv', did you mean '--video.crf'?"),
        (["--qwertzuiop", "1"], "unknown option '--qwertzuiop'; see --help"),
        (["--inp", "x"], "unknown option '--inp', did you mean '--input'?"),
        (["--video.crf", "high"], "'video.crf': input should be a valid integer"),
        (["--video.crf", "52"], "'video.crf': input should be less than or equal to 51 (got '52')"),
        (["--video.preset", "placebo"], "'ultrafast', 'veryfast'"),
        (["--style.mode", "all"], "'one', 'each' or 'random'"),
        (["--style.alpha", "1.5"], "'style.alpha': input should be less than or equal to 1"),
        (["--style.image", "x"], "unknown option '--style.image', did you mean '--style.images'?"),
        (["--resize.max_side", "8"], "'resize.max_side': input should be greater than or equal to 16"),
        (["--input", ""], "'input': string should have at least 1 character"),
        (["--config", "nowhere.yaml"], "no configuration file at 'nowhere.yaml'"),
        (["--config"], "expected one argument"),
        (["stray"], "stray"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(capsys, arguments, expected):
    assert expected in refusal(capsys, *PATHS, *arguments)


def test_missing_keys_are_named_together(capsys):
    line = refusal(capsys)
    assert line == "'input' is required: give --input or put it into the file; 'output' is required: " + (
        "give --output or put it into the file"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vidoe: {crf: 3}", "unknown key 'vidoe', did you mean 'video'?"),
        ("video: {crv: 3}", "unknown key 'video.crv', did you mean 'video.crf'?"),
        ("input: 3", "'input': input should be a valid string (got 3)"),
        ("video: 3", "'video': input should be a valid dictionary"),
        ("video: null", "'video'"),
        ("images: {quality: 101}", "'images.quality': input should be less than or equal to 100 (got 101)"),
        ("dry_run: maybe", "'dry_run': input should be a valid boolean"),
        ("- a\n- b", "must hold keys and values, not a list"),
        ("just words", "must hold keys and values, not a str"),
        ("a: [1, 2", "is not valid YAML"),
        ("a: b: c", "is not valid YAML"),
        ("\tinput: x", "is not valid YAML"),
        (b"input: \xff\xfe", "cannot read"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(capsys, yaml_file, text, expected):
    arguments = [] if "input" in str(text) else ["--input", "in"]
    assert expected in refusal(capsys, "--config", yaml_file(text), *arguments, "--output", "out")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_fine(yaml_file, text):
    assert parse("--config", yaml_file(text), *PATHS) == parse(*PATHS)


def test_a_folder_is_no_configuration_file(capsys, tmp_path):
    assert "cannot read" in refusal(capsys, *PATHS, "--config", str(tmp_path))


def test_the_environment_changes_nothing(monkeypatch, tmp_path):
    expected = parse(*PATHS)
    for name in ("DRY_RUN", "OVERWRITE", "INPUT", "output", "VIDEO", "VIDEO__CRF", "RAY_ADDRESS", "MODEL"):
        monkeypatch.setenv(name, "1")
    (tmp_path / ".env").write_text("overwrite=1\n")
    monkeypatch.chdir(tmp_path)
    assert parse(*PATHS) == expected


def test_a_configuration_cannot_be_changed_afterwards():
    config = parse(*PATHS)
    with pytest.raises(ValueError, match="frozen"):
        config.video.crf = 3


def test_help_names_every_key_and_exits_with_0(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for key in ("--config", "--video.crf", "--resize.max_side", "--units.images", "--dry_run", "exit codes"):
        assert key in text


def train(*arguments: str) -> TrainJohnsonConfig:
    return parse_config(TrainJohnsonConfig, [*TRAINING, *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data.resize", "128"), "data.resize 128 is smaller than train.image_size 256"),
        (("--loss.content.weight", "0", "--loss.gram.weight", "0"), "no term has a weight"),
        (("--loss.gram.taps", "{}"), "loss.gram.taps"),
        (("--loss.gram.taps", '{"relu1_2": -1}'), "greater than 0"),
        (("--train.image_size", "66"), "multiple of 4"),
        (("--train.step", "3"), "did you mean '--train.steps'?"),
    ],
)
def test_validators_of_a_job_speak_in_one_line_too(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        train(*arguments)
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert words in message
    assert message.count("\n") == 1


def test_what_a_section_needs_is_named_in_full(capsys):
    with pytest.raises(SystemExit):
        parse_config(TrainJohnsonConfig, ["--style", "s", "--output", "o"])
    assert "'data.content' is required: give --data.content" in capsys.readouterr().err


def test_taps_come_from_the_terms_that_have_a_weight():
    loss = train("--loss.mean_std.taps", '{"relu4_1": 1}').loss
    assert loss.taps() == {"relu1_2", "relu2_2", "relu3_1", "relu3_4"}
    assert "relu4_1" in train("--loss.mean_std.taps", '{"relu4_1": 1}', "--loss.mean_std.weight", "1").loss.taps()


def test_images_are_kept_a_little_larger_than_their_crops():
    assert train("--train.image_size", "128").resize == 144
    assert train("--train.image_size", "128", "--data.resize", "128").resize == 128


def test_a_number_can_be_unset_on_the_command_line():
    assert train("--train.clip_norm", "null").train.clip_norm is None


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_fit_the_commands_they_name(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    comments = re.sub(r"^# *", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pattern = r"^(?:nst-ops|python) (\S+) (.*)"
    command, arguments = re.findall(pattern, comments, flags=re.MULTILINE)[0]
    assert f"--config configs/{path.name} " in arguments
    if command == "benchmarks/ablation_benchmark.py":
        from benchmarks.ablation_benchmark import AblationConfig as config_class
    else:
        config_class = getattr(nst_ops.config, COMMANDS[command].config)
    parse_config(config_class, shlex.split(arguments))


def test_recipes_for_anime_and_imagenet_say_what_they_do():
    anime = parse("--config", str(ROOT / "configs/celeba_to_anime.yaml"), *PATHS)
    assert (anime.model.kind, anime.model.checkpoint) == ("johnson", "anime_faces")
    imagenet = parse("--config", str(ROOT / "configs/stylized_imagenet.yaml"), *PATHS)
    assert (imagenet.model.checkpoint, imagenet.style.random.seed) == ("styles", 0)
    assert imagenet.resize.max_side is None


class Ink(StrictModel):
    renamed: ClassVar[dict[str, str]] = {"grey": "gray"}

    gray: bool = False
    width: int = 1


class DrawConfig(JobConfig):
    renamed: ClassVar[dict[str, str]] = {"brush": "ink", "redraw": "overwrite"}

    ink: Ink = Ink()
    overwrite: bool = False


@pytest.mark.parametrize("ink", [{"grey": True}, Ink(grey=True)])
def test_former_names_of_keys_are_accepted_from_python(ink):
    config = DrawConfig(brush=ink, redraw=True)
    assert (config.ink.gray, config.overwrite) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--brush.grey", True),
        ("--ink.grey true", True),
        ("--brush.grey=true", True),
        ("--brush.grey --no-ink.grey", False),
        ("--no-brush.grey", False),
    ],
)
def test_former_names_are_accepted_on_the_command_line(arguments, expected):
    assert parse_config(DrawConfig, arguments.split()).ink.gray is expected


def test_the_command_line_wins_over_a_former_name_in_the_file(yaml_file):
    path = yaml_file("brush: {grey: true, width: 3}\nredraw: true")
    config = parse_config(DrawConfig, ["--config", path, "--ink.gray", "false"])
    assert (config.ink.gray, config.ink.width, config.overwrite) == (False, 3, True)


def test_a_key_under_both_of_its_names_is_refused(yaml_file, capsys):
    with pytest.raises(ValueError, match="'grey' is the former name of 'gray': leave 'grey' out"):
        Ink(grey=True, gray=True)
    with pytest.raises(SystemExit):
        parse_config(DrawConfig, ["--config", yaml_file("ink: {grey: true, gray: true}")])
    assert "'grey' is the former name of 'gray'" in capsys.readouterr().err


def test_the_page_of_the_configuration_is_up_to_date():
    script = ROOT / "docs/generate_configuration.py"
    page = runpy.run_path(str(script))["page"]()
    assert page == (ROOT / "docs/configuration.md").read_text(), f"run `python {script.relative_to(ROOT)}`"
    for key in ("video.crf", "loss.gram.weight", "storage.endpoint_url", "page.rank_by", "json"):
        assert f"| `{key}` | " in page


def test_keys_and_values_of_version_0_1_are_accepted():
    old = ["--loss.content.grey", "--loss.gram.grey", "--loss.adversarial.grey", "0.25"]
    loss = train(*old, "--loss.content.of", "photo", "--loss.adversarial.views", '["colour", "grey"]').loss
    assert (loss.content.gray, loss.gram.gray, loss.adversarial.gray) == (True, True, 0.25)
    assert (loss.content.of, loss.adversarial.views) == ("image", ["color", "gray"])
    arguments = ["--data.content", "p", "--data.style", "s", "--output", "o"]
    config = parse_config(TrainVitAdainConfig, [*arguments, "--network.normalisation", "imagenet"])
    assert config.network.normalization == "imagenet"
    arguments = ["--run", "r", "--style", "s", "--output", "o"]
    assert parse_config(EvaluateConfig, [*arguments, "--page.pictures", "2"]).page.images == 2
