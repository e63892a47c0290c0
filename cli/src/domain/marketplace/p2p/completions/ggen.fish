# Completes ggen in fish. Printed by: ggen marketplace p2p completions fish
function __ggen_complete
    set -l line (commandline -cp)
    set -l candidates (ggen marketplace p2p complete --line "$line" 2>/dev/null)
    if test (count $candidates) -eq 0
        return
    end
    if test "$candidates[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $candidates
    end
end
complete -c ggen -f -a '(__ggen_complete)'
