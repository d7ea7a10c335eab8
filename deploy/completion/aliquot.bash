# SPDX-License-Identifier: Apache-2.0
# Completion of aliquot(1) for bash. Verbs, options and their words come from the program itself.

_aliquot_commands()
{
	# Behind the program's name its own arguments are completed as for it alone.
	local i
	for ((i = 2; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == -- ]]; then
			if declare -F _command_offset >/dev/null; then
				_command_offset $((i + 1))
			else
				COMPREPLY=($(compgen -c -- "$cur"))
			fi
			return 0
		fi
	done
	return 1
}

_aliquot()
{
	local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local verb=${COMP_WORDS[1]} options words
	COMPREPLY=()

	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W "$(aliquot help --words 2>/dev/null)" -- "$cur"))
		return
	fi
	[[ $verb == run ]] && _aliquot_commands && return
	case $verb in
	help)
		COMPREPLY=($(compgen -W "$(aliquot help --words 2>/dev/null)" -- "$cur"))
		return
		;;
	bench)
		if ((COMP_CWORD == 2)); then
			COMPREPLY=($(compgen -W "serve fractions" -- "$cur"))
			return
		fi
		;;
	esac

	if [[ $verb == bench ]]; then
		options=$(aliquot bench "${COMP_WORDS[2]}" --words 2>/dev/null) || return
	else
		options=$(aliquot help --words "$verb" 2>/dev/null) || return
	fi
	if [[ $previous == --* ]]; then
		words=$(sed -n "s/^$previous //p" <<<"$options")
		if [[ -n $words ]]; then
			COMPREPLY=($(compgen -W "$words" -- "$cur"))
			return
		fi
		# An option that takes a value which cannot be guessed.
		grep -q "^$previous $" <<<"$options" && return
	fi
	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$(sed 's/ .*//' <<<"$options")" -- "$cur"))
		[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
		return
	fi
	case $verb in
	resize | park | resume | kill | events)
		COMPREPLY=($(compgen -W "$(aliquot ps -q 2>/dev/null)" -- "$cur"))
		;;
	run)
		COMPREPLY=($(compgen -c -- "$cur"))
		;;
	esac
}

complete -F _aliquot aliquot
