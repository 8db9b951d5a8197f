# Completion of unicornctl and unicornd for bash: eval "$(unicornctl completion bash)" in ~/.bashrc

_unicornctl() {
    local program=${1%unicornd}
    program=${program%unicornctl}unicornctl
    mapfile -t COMPREPLY < <("${program/#\~/$HOME}" __complete bash "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    case ${COMPREPLY[${#COMPREPLY[@]} - 1]-} in
        :files) unset 'COMPREPLY[-1]'; compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$2") ;;
        *=) compopt -o nospace ;;
    esac
}

complete -F _unicornctl unicornctl unicornd
