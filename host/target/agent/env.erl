%% A companion of debughost_agent: the environment of an application, without its
%% secrets. They are taken out here, so that none of them leaves the node.
-module(?AGENT).

-export([env/3, take/2]).

-define(HIDDEN, '**redacted**').
%% Strings are read up to here.
-define(TEXT, 4096).

%% env(App, Max, Size) -> {ok, Total, [{Key, Value}]} | {error, unknown}
%% At most Max entries, in the order of keys, of at most Size subterms each; what
%% is left out shows as '...', what may be a secret as '**redacted**'.
env(Name, Max, Size) ->
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    try binary_to_existing_atom(Name, utf8) of
        App ->
            case application:get_key(App, vsn) of
                {ok, _} ->
                    Keys = lists:sort([K || {K, _} <- application:get_all_env(App)]),
                    erlang:garbage_collect(),
                    {ok, length(Keys), [E || K <- lists:sublist(Keys, Max), E <- entry(App, K, Size)]};
                undefined -> {error, unknown}
            end
    catch
        error:badarg -> {error, unknown}
    end.

entry(App, Key, Size) ->
    erlang:yield(),
    case application:get_env(App, Key) of
        {ok, Value} ->
            {Shown, _} = value(Key, Value, Size),
            [{Key, Shown}];
        undefined -> []
    end.

%% take(App, Secrets) -> {ok, Text, Secret, Unwritable} | {error, unknown}
%% The environment as one element of a config file; and the keys that are left out of
%% it: since they may be secret or are long texts, unless Secrets, and since no file can
%% have what is in them.
take(Name, Secrets) ->
    process_flag(max_heap_size, #{size => 16 * 1024 * 1024, kill => true, error_logger => false}),
    try binary_to_existing_atom(Name, utf8) of
        App ->
            Kinds = [{kind(K, V, Secrets), E} || {K, V} = E <- lists:sort(application:get_all_env(App))],
            Of = fun(Kind) -> [E || {Is, E} <- Kinds, Is =:= Kind] end,
            Text = unicode:characters_to_binary(io_lib:format("~w", [{App, Of(kept)}])),
            {ok, Text, [K || {K, _} <- Of(secret)], [K || {K, _} <- Of(unwritable)]}
    catch
        error:badarg -> {error, unknown}
    end.

kind(Key, Value, Secrets) ->
    erlang:yield(),
    case writable(Value) of
        false -> unwritable;
        true when Secrets -> kept;
        true ->
            case value(Key, Value, 1 bsl 50) of
                {Value, _} -> kept;
                _ -> secret
            end
    end.

writable([Head | Tail]) -> writable(Head) andalso writable(Tail);
writable(T) when is_tuple(T) -> writable(tuple_to_list(T));
writable(M) when is_map(M) -> writable(maps:to_list(M));
writable(T) -> is_atom(T) orelse is_number(T) orelse is_bitstring(T) orelse T =:= [].

%% ------------------------------------------------------------------- secrets

value(Key, Value, Left) ->
    case secret(Key) of
        true -> {hide(Value), Left - 1};
        false -> term(Value, Left)
    end.

%% That a secret is not set is none.
hide(V) when is_boolean(V); V =:= undefined; V =:= nil; V =:= none; V =:= []; V =:= <<>>; V =:= infinity -> V;
hide(_) -> ?HIDDEN.

secret(Key) when is_atom(Key) -> secret(atom_to_binary(Key, utf8));
secret(Key) when is_binary(Key), byte_size(Key) < 200 ->
    binary:match(string:lowercase(valid(Key)), words()) =/= nomatch;
secret([C | _] = Key) when is_integer(C) ->
    case string(Key) of
        true -> secret(unicode:characters_to_binary(Key));
        false -> false
    end;
secret(_) -> false.

words() ->
    [<<"pass">>, <<"pwd">>, <<"secret">>, <<"token">>, <<"key">>, <<"cookie">>, <<"credential">>, <<"authorization">>,
     <<"private">>, <<"salt">>, <<"signature">>, <<"signing">>, <<"dsn">>, <<"bearer">>].

valid(B) ->
    case unicode:characters_to_binary(B) of
        V when is_binary(V) -> V;
        _ -> unicode:characters_to_binary(B, latin1)
    end.

%% term(Term, Left) -> {Term, Left}: without secrets, and at most Left subterms.
term(_, Left) when Left =< 0 -> {'...', 0};
term(B, Left) when is_binary(B) -> {text(B), Left - 1};
term(B, Left) when is_bitstring(B), bit_size(B) > 8 * ?TEXT -> {'...', Left - 1};
term(F, Left) when is_function(F) ->
    case erlang:fun_info(F, type) of
        {type, external} -> {F, Left - 1};
        {type, local} -> {'...', Left - 1} % its environment may be anything
    end;
term(I, Left) when is_integer(I), (I > 1 bsl 8192 orelse I < -(1 bsl 8192)) -> {'...', Left - 1};
term([C | _] = L, Left) when is_integer(C) ->
    case string(L) of
        true -> {text(L), Left - 1};
        false -> list(L, Left - 1, [])
    end;
term([_ | _] = L, Left) -> list(L, Left - 1, []);
term({K, V}, Left) ->
    {K1, Left1} = term(K, Left - 1),
    {V1, Left2} = value(K, V, Left1),
    {{K1, V1}, Left2};
term(T, Left) when is_tuple(T), tuple_size(T) > 2, (is_atom(element(1, T)) orelse is_binary(element(1, T))) ->
    case secret(element(1, T)) of
        true -> {list_to_tuple([element(1, T) | [hide(E) || E <- lists:sublist(tl(tuple_to_list(T)), 8)]]), Left - 1};
        false -> tuple(T, Left)
    end;
term(T, Left) when is_tuple(T) -> tuple(T, Left);
term(M, Left) when is_map(M) -> map(maps:next(maps:iterator(M)), Left - 1, []);
term(T, Left) -> {T, Left - 1}.

tuple(T, Left) ->
    case list(lists:sublist(tuple_to_list(T), max(Left, 0)), Left - 1, []) of
        {Es, Left1} when is_list(Es) -> {list_to_tuple(proper(Es)), Left1}
    end.

proper([H | T]) -> [H | proper(T)];
proper([]) -> [];
proper(Tail) -> [Tail].

list([H | T], Left, Acc) when Left > 0 ->
    {H1, Left1} = term(H, Left),
    list(T, Left1, [H1 | Acc]);
list([], Left, Acc) -> {lists:reverse(Acc), Left};
list([_ | _], Left, Acc) -> {lists:reverse(Acc, '...'), Left};
list(Tail, Left, Acc) ->
    {Tail1, Left1} = term(Tail, Left),
    {lists:reverse(Acc, Tail1), Left1}.

map({K, V, Iter}, Left, Acc) when Left > 0 ->
    {K1, Left1} = term(K, Left),
    {V1, Left2} = value(K, V, Left1),
    map(maps:next(Iter), Left2, [{K1, V1} | Acc]);
map(none, Left, Acc) -> {maps:from_list(Acc), Left};
map(_, Left, Acc) -> {maps:from_list([{'...', '...'} | Acc]), Left}.

%% ------------------------------------------------------------------- strings

string(L) -> string(L, ?TEXT).

string([], _) -> true;
string([C | T], N) when N > 0, is_integer(C), C >= 9, C < 16#110000, not (C >= 16#D800 andalso C < 16#E000) -> string(T, N - 1);
string(_, _) -> false.

text(L) when is_list(L) ->
    case text(unicode:characters_to_binary(L)) of
        B when is_binary(B) -> unicode:characters_to_list(B);
        Hidden -> Hidden
    end;
text(B) when byte_size(B) > ?TEXT -> text(binary:copy(binary:part(B, 0, ?TEXT)));
text(B) ->
    case binary:match(B, [<<"://">>, <<"=">>, <<"PRIVATE KEY">>, <<"earer ">>]) of
        nomatch -> B;
        _ -> without(B)
    end.

%% What a URL, a connection string or a header carries.
without(B) ->
    case binary:match(B, <<"PRIVATE KEY">>) of
        nomatch ->
            lists:foldl(fun({Pattern, With}, Acc) ->
                                re:replace(Acc, Pattern, With, [global, caseless, {return, binary}])
                        end, B,
                        [{"([a-z][a-z0-9+.-]*://[^\\s@/:]*):\\S*@", "\\1:***@"},
                         {"([a-z][a-z0-9+.-]*://)[^\\s@/:]+@", "\\1***@"},
                         {"([\\w.-]*(?:pass|pwd|secret|token|key|cookie|credential|signature)[\\w.-]*\\s*=\\s*)[^\\s;&,\"']+", "\\1***"},
                         {"(bearer\\s+)\\S+", "\\1***"}]);
        _ -> ?HIDDEN
    end.
