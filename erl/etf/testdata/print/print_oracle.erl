%% Answers how OTP itself evaluates and prints terms. Reads one request a line,
%% "Op Base64", and answers with a line "answer Base64…".
-module(print_oracle).
-export([main/0]).

main() ->
    case io:get_line("") of
        eof ->
            halt();
        Line ->
            [Op, Arg] = string:lexemes(Line, " \n"),
            Answer =
                try
                    answer(Op, base64:decode(Arg))
                catch
                    C:E:S -> [<<"error">>, unicode:characters_to_binary(io_lib:format("~p", [{C, E, S}]))]
                end,
            io:put_chars([lists:join(" ", ["answer" | [base64:encode(A) || A <- Answer]]), "\n"]),
            main()
    end.

%% An expression: its value and how that prints.
answer("eval", Text) ->
    Term = eval(Text),
    [term_to_binary(Term) | print(Term)];
%% A term: the same with its maps in this node's order, and how it prints.
answer("print", Bin) ->
    Term = binary_to_term(Bin),
    [term_to_binary(Term) | print(Term)];
%% A text that Format wrote: its value.
answer("read", Text) ->
    [term_to_binary(eval(Text))].

print(Term) ->
    [unicode:characters_to_binary(io_lib:format(F, [Term])) || F <- ["~0tp", "~tw"]].

eval(Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text) ++ " ."),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    {value, Term, _} = erl_eval:exprs(Exprs, []),
    Term.
