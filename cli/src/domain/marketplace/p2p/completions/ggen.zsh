#compdef ggen
# Completes ggen in zsh. Printed by: ggen marketplace p2p completions zsh
_ggen() {
    local -a lines values shown
    local line
    lines=("${(@f)$(${~words[1]} marketplace p2p complete --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ ${lines[1]} == :files ]]; then
        _files
        return
    fi
    for line in "${lines[@]}"; do
        [[ -n $line ]] || continue
        values+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
    done
    (( $#values )) && compadd -l -d shown -a values
}
if [[ ${funcstack[1]-} == _ggen ]]; then
    _ggen "$@"
else
    compdef _ggen ggen
fi
