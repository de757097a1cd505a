# unif2ace completion; written by python -m unif2ace_cli.completions, do not edit
# Use: source unif2ace.bash, or copy it to ~/.local/share/bash-completion/completions/unif2ace

_unif2ace_files() {
    compopt -o filenames 2>/dev/null
    local entry
    while IFS= read -r entry; do COMPREPLY+=("$entry"); done < <(compgen "$1" -- "$current")
}

_unif2ace() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    local command="" flags="" words="" files=no index
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "${COMP_WORDS[index]}" in
            -*) ;;
            *) command="${COMP_WORDS[index]}"; break ;;
        esac
    done
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W "generate ask describe train eval quantize data model --help --version --debug" -- "$current"))
        return
    fi
    case "$command:$previous" in
        generate:-n|generate:--count) :; return ;;
        generate:--prompts) _unif2ace_files -f; return ;;
        generate:--seed) :; return ;;
        generate:--steps) :; return ;;
        generate:--guidance) :; return ;;
        generate:--guidance-schedule) COMPREPLY=($(compgen -W "constant linear cosine window:0.2-0.8" -- "$current")); return ;;
        generate:--guidance-rescale) :; return ;;
        generate:--temperature) :; return ;;
        generate:--cooling) :; return ;;
        generate:--repair) :; return ;;
        generate:--sampler) COMPREPLY=($(compgen -W "maskgit ancestral euler first_hitting remdm halton halton_centred moment" -- "$current")); return ;;
        generate:--negative) :; return ;;
        generate:--best-of) :; return ;;
        generate:--output|generate:-o) _unif2ace_files -f; return ;;
        generate:--model) _unif2ace_files -f; return ;;
        generate:--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        generate:--quantize) COMPREPLY=($(compgen -W "int8 nf4" -- "$current")); return ;;
        generate:--batch-size) :; return ;;
        ask:--requests) _unif2ace_files -f; return ;;
        ask:--face) :; return ;;
        ask:--model) _unif2ace_files -f; return ;;
        ask:--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        ask:--quantize) COMPREPLY=($(compgen -W "int8 nf4" -- "$current")); return ;;
        ask:--batch-size) :; return ;;
        describe:--face) :; return ;;
        describe:--model) _unif2ace_files -f; return ;;
        describe:--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        describe:--quantize) COMPREPLY=($(compgen -W "int8 nf4" -- "$current")); return ;;
        describe:--batch-size) :; return ;;
        train:--data) _unif2ace_files -d; return ;;
        train:--output|train:-o) _unif2ace_files -f; return ;;
        train:--preset) COMPREPLY=($(compgen -W "mini base 1.8b" -- "$current")); return ;;
        eval:--data) _unif2ace_files -d; return ;;
        eval:--split) COMPREPLY=($(compgen -W "train val" -- "$current")); return ;;
        eval:--limit) :; return ;;
        eval:--seed) :; return ;;
        eval:--output|eval:-o) _unif2ace_files -f; return ;;
        eval:--steps) :; return ;;
        eval:--guidance) :; return ;;
        eval:--guidance-schedule) COMPREPLY=($(compgen -W "constant linear cosine window:0.2-0.8" -- "$current")); return ;;
        eval:--guidance-rescale) :; return ;;
        eval:--temperature) :; return ;;
        eval:--cooling) :; return ;;
        eval:--repair) :; return ;;
        eval:--sampler) COMPREPLY=($(compgen -W "maskgit ancestral euler first_hitting remdm halton halton_centred moment" -- "$current")); return ;;
        eval:--negative) :; return ;;
        eval:--best-of) :; return ;;
        eval:--judge) _unif2ace_files -d; return ;;
        eval:--sheet) _unif2ace_files -f; return ;;
        eval:--model) _unif2ace_files -f; return ;;
        eval:--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        eval:--quantize) COMPREPLY=($(compgen -W "int8 nf4" -- "$current")); return ;;
        quantize:--bits) COMPREPLY=($(compgen -W "8 4" -- "$current")); return ;;
        quantize:--output|quantize:-o) _unif2ace_files -f; return ;;
        quantize:--data) _unif2ace_files -d; return ;;
        quantize:--limit) :; return ;;
        quantize:--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--mapping) _unif2ace_files -f; return ;;
        data:--val-share) :; return ;;
        data:--limit) :; return ;;
        data:--rows) :; return ;;
        data:--seed) :; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--aligned) :; return ;;
        data:--pixels) :; return ;;
        data:--smallest) :; return ;;
        data:--sharpness) :; return ;;
        data:--distance) :; return ;;
        data:--model) _unif2ace_files -f; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--model) _unif2ace_files -f; return ;;
        data:--calibration) :; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--styles) :; return ;;
        data:--rewriter-url) :; return ;;
        data:--rewriter-model) :; return ;;
        data:--seed) :; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--count) :; return ;;
        data:--seed) :; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--model) _unif2ace_files -f; return ;;
        data:--codec) _unif2ace_files -f; return ;;
        data:--clip) :; return ;;
        data:--face) :; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--samples) :; return ;;
        data:--seed) :; return ;;
        data:--tokenizer) _unif2ace_files -f; return ;;
        data:--limit) :; return ;;
        data:--distance) :; return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--model) _unif2ace_files -f; return ;;
        data:--precision) :; return ;;
        data:--split) COMPREPLY=($(compgen -W "train val" -- "$current")); return ;;
        data:--output|data:-o) _unif2ace_files -f; return ;;
        data:--format) :; return ;;
        data:--rows) :; return ;;
        model:--output|model:-o) _unif2ace_files -f; return ;;
        model:--codec) _unif2ace_files -f; return ;;
        model:--tokenizer) _unif2ace_files -f; return ;;
        model:--dtype) COMPREPLY=($(compgen -W "fp16 fp32 bf16" -- "$current")); return ;;
        model:--pixels) :; return ;;
        model:--seed) :; return ;;
        model:--output|model:-o) _unif2ace_files -f; return ;;
        model:--weights) _unif2ace_files -f; return ;;
    esac
    case "$command" in
        generate) flags="-n --count --prompts --seed --steps --guidance --guidance-schedule --guidance-rescale --temperature --cooling --repair --sampler --negative --best-of --output -o --force -f --json --quiet -q --timings --debug --model --device --quantize --batch-size --help -h"; words=""; files=no ;;
        ask) flags="--requests --face --align --no-align --json --quiet -q --timings --debug --model --device --quantize --batch-size --help -h"; words=""; files=yes ;;
        describe) flags="--face --align --no-align --json --quiet -q --timings --debug --model --device --quantize --batch-size --help -h"; words=""; files=yes ;;
        train) flags="--data --output -o --preset --resume --dry-run --json --quiet -q --debug --help -h"; words="codec clip reader face locate model decoder judge"; files=no ;;
        eval) flags="--data --split --limit --seed --output -o --steps --guidance --guidance-schedule --guidance-rescale --temperature --cooling --repair --sampler --negative --best-of --paper --judge --sheet --json --quiet -q --debug --model --device --quantize --help -h"; words="answers conditions descriptions generation prompts nearest likelihood codec routing ablation"; files=no ;;
        quantize) flags="--bits --output -o --data --limit --force -f --json --quiet -q --debug --device --help -h"; words="mini"; files=yes ;;
        data) flags="--output -o --mapping --val-share --limit --rows --seed --json --quiet -q --debug --output -o --aligned --pixels --smallest --sharpness --distance --model --json --quiet -q --debug --output -o --model --calibration --json --quiet -q --debug --output -o --styles --rewriter-url --rewriter-model --seed --json --quiet -q --debug --output -o --count --seed --json --quiet -q --debug --output -o --model --codec --clip --face --json --quiet -q --debug --output -o --samples --seed --tokenizer --json --quiet -q --debug --limit --distance --json --quiet -q --debug --output -o --model --precision --split --force -f --json --quiet -q --debug --output -o --format --rows --json --quiet -q --debug --help -h"; words="import align annotate caption questions encode stats check calibrate export"; files=yes ;;
        model) flags="--output -o --codec --tokenizer --dtype --pixels --seed --force -f --json --quiet -q --debug --output -o --weights --force -f --json --quiet -q --debug --help -h"; words="convert expert"; files=yes ;;
        completion) flags="--debug --help -h"; words="bash zsh fish"; files=no ;;
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        return
    fi
    [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ $files == yes ]] && _unif2ace_files -f
}

complete -F _unif2ace unif2ace
