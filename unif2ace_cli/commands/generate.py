"""`unif2ace generate "rosy cheeks, hoop earrings"`: text in, one PNG per seed out, its path on stdout."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from unif2ace_cli import __version__, inputs, models, options, outputs, sampling
from unif2ace_cli.console import Reporter, UsageError
from unif2ace_core.timing import phase

if TYPE_CHECKING:
    from unif2ace_core.tasks.generate import GeneratedImage, GenerateOptions
    from unif2ace_core.weights.resolve import LoadedModel

USAGE = "PROMPT [-n N] [-o PATH] [OPTIONS]"


def run(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", show_default=False, help="What the face is like.")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, help="Images per prompt.")] = 1,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", metavar="FILE|-", help='Read prompts: lines, or JSONL {"prompt", "seed"}.'),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Seed of the first image, the next take N+1, N+2 ...; random by default.",
        ),
    ] = None,
    steps: sampling.StepsOption = None,
    guidance: sampling.GuidanceOption = None,
    guidance_schedule: sampling.ScheduleOption = None,
    guidance_rescale: sampling.RescaleOption = None,
    temperature: sampling.TemperatureOption = None,
    cooling: sampling.CoolingOption = None,
    repair: sampling.RepairOption = None,
    sampler: sampling.SamplerOption = None,
    negative: sampling.NegativeOption = None,
    best_of: sampling.BestOfOption = 1,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH|DIR",
            rich_help_panel=options.OUTPUT_PANEL,
            help="File or folder; by default PROMPT_sSEED.png in the current folder.",
        ),
    ] = None,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    timings: options.TimingsOption = False,
    debug: options.DebugOption = False,
    model: options.ModelOption = "mini",
    device: options.DeviceOption = options.Device.auto,
    quantize: options.QuantizeOption = None,
    batch_size: options.PictureBatchOption = 8,
) -> None:
    """Write faces that a text describes.

    Prints the path of each image. The PNG carries the prompt, the seed and all settings.
    Existing files are kept: a new name gets _1, _2 ...; --force replaces those from before this run.
    A prompt that cannot be used is reported on stderr, the others go on.

    [dim]unif2ace generate "rosy cheeks, hoop earrings" --seed 7[/dim]

    [dim]unif2ace generate --prompts prompts.txt -n 4 -o faces/[/dim]
    """
    reporter = Reporter(json=json, quiet=quiet)
    sampling.check(guidance, temperature, sampler, guidance_schedule, negative)
    texts, seeds = plan_requests(reporter, prompt, prompts, count, seed)
    if not texts:
        raise typer.Exit(reporter.exit_code)
    paths = outputs.image_paths(output, texts, seeds)
    in_folder = output is not None and outputs.wants_folder(output, len(texts) > 1)
    for path in {path.parent: path for path in paths}.values():
        outputs.check_writable(path, make_folder=in_folder)
    loaded = models.load(reporter, model, device, parts=("clip",) if best_of > 1 else (), quantize=quantize)
    models.note_long_texts(reporter, loaded, texts, "prompt")
    settings = sampling.settings(
        steps, guidance, guidance_schedule, guidance_rescale, temperature, cooling, repair, sampler, negative, best_of
    )
    models.note_long_texts(reporter, loaded, [settings.negative or ""], "negative prompt")
    produce(reporter, loaded, list(zip(texts, seeds, paths)), settings, batch_size, force)
    if seed is None and not json:
        reporter.note(f"seed {seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else ""))
    raise typer.Exit(reporter.exit_code)


def read_entries(reporter: Reporter, prompt: str | None, source: str | None) -> list[inputs.Prompt]:
    """The prompt given, or those of a file; lines of it that cannot be read are reported."""
    if (prompt is None) == (source is None):
        raise UsageError(
            "give a PROMPT or --prompts FILE, not both"
            if prompt is not None
            else 'missing PROMPT; for example: unif2ace generate "rosy cheeks"'
        )
    if prompt is not None and not inputs.clean_text(prompt):
        raise UsageError('the prompt is empty; say what the face is like, for example "rosy cheeks"')
    if prompt is not None:
        return [inputs.Prompt(inputs.clean_text(prompt))]
    return inputs.read_prompts(source or "", reporter.failure)


def plan_requests(
    reporter: Reporter, prompt: str | None, source: str | None, count: int, seed: int | None
) -> tuple[list[str], list[int]]:
    """(texts, seeds) of the images to make, `count` per prompt.

    A prompt with its own seed uses seed .. seed + count - 1; the others share one running number.
    """
    entries = read_entries(reporter, prompt, source)
    running = secrets.randbelow(2**32) if seed is None else seed
    texts: list[str] = []
    seeds: list[int] = []
    for entry in entries:
        first = running if entry.seed is None else entry.seed
        running += count if entry.seed is None else 0
        texts += [entry.text] * count
        seeds += range(first, first + count)
    if max(seeds, default=0) > inputs.LARGEST_SEED:
        raise UsageError(f"seed {max(seeds)} is too large; the largest is {inputs.LARGEST_SEED}")
    return texts, seeds


def produce(
    reporter: Reporter,
    loaded: LoadedModel,
    jobs: list[tuple[str, int, Path]],
    settings: GenerateOptions,
    batch_size: int,
    force: bool,
) -> None:
    """Make the images and write each as soon as it is there."""
    from unif2ace_core.tasks.generate import GenerateRequest, generate

    requests = [GenerateRequest(text, seed) for text, seed, _ in jobs]
    written: set[Path] = set()
    with reporter.progress("Generating", len(jobs)) as advance:
        for (_, _, path), made in zip(jobs, generate(loaded, requests, settings, batch_size=batch_size)):
            final = save(loaded, made, path, force, written)
            written.add(final)
            report(reporter, loaded, final, made)
            advance(1)


@phase("files: write")
def save(loaded: LoadedModel, made: GeneratedImage, path: Path, force: bool, written: set[Path]) -> Path:
    """Write the image with its settings inside, beside those of this run; returns its final path."""
    kinds = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    kind = kinds.get(path.suffix.lower(), "PNG")
    extra = {"pnginfo": png_text(describe_settings(loaded, made))} if kind == "PNG" else {"quality": 95}

    def write(file: BinaryIO) -> None:
        made.image.save(file, format=kind, **extra)

    return outputs.write_file(path, write, force, written)


def how_drawn(made: GeneratedImage) -> dict[str, Any]:
    """The settings that drew the image, in the order in which they are reported."""
    used = made.options
    return {
        "steps": used.steps,
        "guidance": used.guidance,
        "guidance_schedule": used.guidance_schedule,
        "guidance_rescale": used.guidance_rescale,
        "negative": made.negative,
        "sampler": used.sampler,
        "temperature": used.temperature,
        "cooling": used.cooling,
        "repair": used.repair,
        "best_of": used.best_of,
    }


def describe_settings(loaded: LoadedModel, made: GeneratedImage) -> dict[str, str]:
    """What is needed to make the same image again, as texts."""
    return {
        "prompt": made.request.prompt,
        "seed": str(made.request.seed),
        **{name: str(value) for name, value in how_drawn(made).items()},
        "model": loaded.name,
        **({"quantization": loaded.quantization} if loaded.quantization else {}),
        "version": __version__,
        "software": f"unif2ace {__version__}",
    }


def png_text(fields: dict[str, str]) -> Any:
    """Fields as PNG text chunks (tEXt; iTXt where Latin-1 does not do)."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in fields.items():
        info.add_text(key, value)
    return info


def report(reporter: Reporter, loaded: LoadedModel, path: Path, made: GeneratedImage) -> None:
    """One line on stdout for one image."""
    if not reporter.json:
        reporter.line(str(path))
        return
    request = {"prompt": made.request.prompt, "path": str(path), "seed": made.request.seed}
    reporter.record({**request, **how_drawn(made), "model": loaded.name, "seconds": round(made.seconds, 3)})
