# Completes ggen in bash. Printed by: ggen marketplace p2p completions bash
_ggen() {
    local line=${COMP_LINE:0:COMP_POINT} candidates=() candidate kept
    COMPREPLY=()
    mapfile -t candidates < <("${1/#\~/$HOME}" marketplace p2p complete --line "$line" 2>/dev/null)
    if [[ ${candidates[0]-} == :files ]]; then
        compopt -o default
        return
    fi
    # bash replaces only what stands behind the last of its word breaks, such as @ and =.
    kept=${line##*[[:space:]]}
    kept=${kept%"${kept##*[$COMP_WORDBREAKS]}"}
    for candidate in "${candidates[@]}"; do
        candidate=${candidate%%$'\t'*}
        COMPREPLY+=("${candidate#"$kept"}")
    done
}
complete -F _ggen ggen
