#!/bin/sh
# find_python.sh VERSION: print the path of an interpreter of this version, or nothing.
# pyenv puts a command on PATH for every version that it has, but it runs only the chosen ones.
for program in "python$1" "$(pyenv root 2>/dev/null)"/versions/"$1".*/bin/python"$1"; do
    if "$program" -c '' 2>/dev/null; then
        command -v "$program"
        exit
    fi
done
