# bash completion for kubectl-yoshi; needs nothing else, not even the bash-completion package.
# For `kubectl yoshi` load kubectl's own completion, which asks kubectl_complete-yoshi.

__kubectl_yoshi_complete() {
  local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} word rest i
  local words=() count=0

  # bash splits words at "=" and ":" as well: put together what no blank stands between.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    rest=${line#"${line%%[![:space:]]*}"}
    word=${COMP_WORDS[i]}
    ((i < COMP_CWORD)) || word=$rest
    if ((i > 0)) && [[ $rest == "$line" ]]; then
      words[count - 1]+=$word
    else
      words[count++]=$word
    fi
    line=${rest#"$word"}
  done

  local program=${words[0]/#\~\//$HOME/} directive=0 longest=0 current=${words[count - 1]}
  local names=() abouts=() about
  while IFS= read -r line; do
    if [[ $line =~ ^:([0-9]+)$ ]]; then
      directive=${BASH_REMATCH[1]}
    elif [[ -n $line ]]; then
      word=${line%%$'\t'*}
      about=${line#"$word"}
      names+=("$word")
      abouts+=("${about#$'\t'}")
      ((${#word} <= longest)) || longest=${#word}
    fi
  done < <("$program" __complete "${words[@]:1}" 2>/dev/null)

  # Only values are answered to "--flag=val", and bash replaces only what stands after the last "=" or ":".
  local value=$current before="" kept="" separator start
  if [[ $current == -*=* ]]; then
    value=${current#*=}
    [[ $COMP_WORDBREAKS == *=* ]] || before=${current%"$value"}
  fi
  for separator in : =; do
    if [[ $value == *$separator* && $COMP_WORDBREAKS == *$separator* ]]; then
      start=${value%"${value##*$separator}"}
      ((${#start} <= ${#kept})) || kept=$start
    fi
  done

  COMPREPLY=()
  for ((i = 0; i < ${#names[@]}; i++)); do
    word=$before${names[i]#"$kept"}
    if ((${#names[@]} > 1)) && [[ -n ${abouts[i]} && ${COMP_TYPE:-9} != 37 ]]; then
      # Shown only: as long as there are several, bash inserts what they have in common.
      printf -v word "%-${longest}s  (%s)" "$word" "${abouts[i]}"
      word=${word:0:${COLUMNS:-80}}
    fi
    COMPREPLY+=("$word")
  done

  if ((${#names[@]} == 0 && directive == 0)); then
    compopt -o default 2>/dev/null # files
  elif ((${#names[@]} == 0 && directive & 16)); then
    compopt -o dirnames 2>/dev/null
  fi
  ((directive & 2)) && compopt -o nospace 2>/dev/null
  ((directive & 32)) && compopt -o nosort 2>/dev/null
  return 0
}

complete -F __kubectl_yoshi_complete kubectl-yoshi
