# fish completion for kubectl-yoshi. For `kubectl yoshi` load kubectl's own, which asks kubectl_complete-yoshi.

function __kubectl_yoshi_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l answer ($program __complete $words[2..-1] "$current" 2>/dev/null)
    set -l directive (string replace -rf '^:(\d+)$' '$1' -- $answer[-1])
    or set directive 4
    test (count $answer) -gt 0; and set -e answer[-1]

    if test (count $answer) -eq 0
        if test $directive -eq 0
            __fish_complete_path $current
        else if test $directive -eq 16
            __fish_complete_directories $current
        end
        return
    end
    # Of "--flag=value" only the value is offered, and fish wants the whole word.
    set -l kept (string match -r -- '^-[^=]*=' $current)
    string join -- \n "$kept"$answer
end

complete -c kubectl-yoshi -e
complete -c kubectl-yoshi -f -k -a '(__kubectl_yoshi_complete)'
