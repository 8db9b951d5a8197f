# Completion of unicornctl and unicornd for fish: unicornctl completion fish > ~/.config/fish/completions/unicornctl.fish

function __unicornctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '(unicornctl|unicornd)$' unicornctl -- (string replace -r '^~' $HOME -- $words[1]))
    for line in ($program __complete fish $words "$current" 2>/dev/null)
        if test "$line" = ':files'\t
            set -l before (string match -r '^-.*=' -- "$current")
            for path in (__fish_complete_path (string replace -r '^-.*=' '' -- "$current"))
                echo -- "$before$path"
            end
        else
            echo -- $line
        end
    end
end

complete -c unicornctl -f -a '(__unicornctl_complete)'
complete -c unicornd -f -a '(__unicornctl_complete)'
