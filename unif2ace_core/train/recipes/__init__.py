"""One recipe per training stage; `RECIPES` maps its name to the module that builds it."""

RECIPES = {
    "codec": "unif2ace_core.train.recipes.codec",
    "clip": "unif2ace_core.train.recipes.clip",
    "reader": "unif2ace_core.train.recipes.reader",
    "face": "unif2ace_core.train.recipes.face",
    "locate": "unif2ace_core.train.recipes.locate",
    "model": "unif2ace_core.train.recipes.model",
    "decoder": "unif2ace_core.train.recipes.decoder",
    "judge": "unif2ace_core.train.recipes.judge",
}
