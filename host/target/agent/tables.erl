%% A companion of debughost_agent: ETS tables, what is in them, and Mnesia's.
-module(?AGENT).

-export([tables/1, read/1, mnesia/1]).

%% Tables looked at between two yields.
-define(SLICE, 500).
%% Objects that one step of a scan looks at, at most.
-define(CHUNK, 1000).
%% Bytes of objects that one step may copy to the heap, going by the average.
-define(STEP_BYTES, 4 * 1024 * 1024).
%% A continuation of more bytes than this does not travel.
-define(CURSOR, 1024).

%% ------------------------------------------------------------------ the list

%% tables(#{sort := memory | size | name, limit := N, text := Bin, share := Percent})
%%   -> {Total, [Row]}
%% Row: {Name, Id, Owner, Type, Protection, Size, Bytes, Heir, Named, Keypos,
%%       Compressed, ReadConcurrency, WriteConcurrency}
%% text is a lower-case part of the name, <<>> for all. The highest come first,
%% names from the lowest.
tables(#{sort := Sort, limit := Limit, text := Text, share := Share}) ->
    quiet(32 * ets_count()),
    Found = ranked(ets:all(), Sort, Text, ?SLICE, Share, now_native(), []),
    Best = lists:sublist(lists:sort(Found), Limit),
    {length(Found), [R || {_, T} <- Best, R <- row(T)]}.

ranked([], _, _, _, _, _, Acc) -> Acc;
ranked(Ts, Sort, Text, 0, Share, T0, Acc) ->
    ranked(Ts, Sort, Text, ?SLICE, Share, ?HELPER:yield(T0, Share), Acc);
ranked([T | Ts], Sort, Text, K, Share, T0, Acc) ->
    Acc1 = case named(T, Text) of
               true ->
                   case ets:info(T, Sort) of
                       N when is_integer(N) -> [{-N, T} | Acc];
                       undefined when Sort =/= name -> Acc; % gone meanwhile
                       Name -> [{Name, T} | Acc]
                   end;
               false ->
                   Acc
           end,
    ranked(Ts, Sort, Text, K - 1, Share, T0, Acc1).

named(_, <<>>) -> true;
named(T, Text) ->
    case ets:info(T, name) of
        undefined -> false;
        Name -> string:find(string:lowercase(atom_to_binary(Name, utf8)), Text) =/= nomatch
    end.

row(T) ->
    case ets:info(T) of
        undefined -> [];
        Info ->
            Get = fun(K) -> proplists:get_value(K, Info) end,
            [{Get(name), id(Get(id)), Get(owner), Get(type), Get(protection), Get(size),
              Get(memory) * erlang:system_info(wordsize), Get(heir), Get(named_table), Get(keypos),
              Get(compressed), Get(read_concurrency), Get(write_concurrency)}]
    end.

id(Ref) when is_reference(Ref) -> list_to_binary(ref_to_list(Ref));
id(_) -> <<>>.

%% ------------------------------------------------------------------ the rows

%% read(#{table := [Bin], key := Term | none, match := Term | none, cursor := Bin,
%%        limit := N, bytes := N, time := Ms, share := Percent})
%%   -> {ok, Row, [{Object, Cut}], Scanned, Cursor} | {refused, Why}
%% table: names or the id that may be meant, the first that exists is. key and
%% match: {term, Bin} in the external format; their atoms are not made. Each
%% object is cut to about so many bytes. After the time, and where there are
%% more than limit, Cursor tells where to go on; else it is <<>>.
%% Why: no_table | private | atom | cursor | {several, [Id]}
read(#{table := Texts} = Spec) ->
    quiet(0),
    case find(Texts) of
        {ok, T} ->
            try read(T, row(T), Spec)
            catch
                error:badarg -> {refused, case ets:info(T, id) of undefined -> no_table; _ -> cursor end};
                throw:Why -> {refused, Why}
            end;
        Why ->
            {refused, Why}
    end.

read(_, [], _) -> {refused, no_table};
read(_, [Row], _) when element(5, Row) =:= private -> {refused, private};
read(T, [Row], #{key := Key, match := Match, cursor := Cursor, limit := Limit, bytes := Bytes} = Spec) ->
    Pattern = decoded(Match),
    case decoded(Key) of
        none ->
            {Spec1, Step} = steps(T, Row, Pattern, Limit),
            Until = erlang:monotonic_time(millisecond) + maps:get(time, Spec),
            From = from(T, Cursor, Spec1),
            {Objects, Scanned, Next} = page(From, {T, Spec1, Step, Bytes, Until, maps:get(share, Spec)}, Limit),
            {ok, Row, Objects, Scanned, cursor(Next)};
        {term, K} ->
            All = ets:lookup(T, K),
            Those = case Pattern of
                        none -> All;
                        {term, P} -> ets:match_spec_run(All, ets:match_spec_compile([{P, [], ['$_']}]))
                    end,
            {ok, Row, [cut(O, Bytes) || O <- lists:sublist(Those, Limit)], length(All), <<>>}
    end.

decoded(none) -> none;
decoded({term, Bin}) ->
    try {term, binary_to_term(Bin, [safe])}
    catch error:badarg -> throw(atom)
    end.

%% A table by the texts that may mean it: the id of any, the name of a named one,
%% the name of an unnamed one where there is only one of that name.
find([]) -> no_table;
find([Text | More]) ->
    case find1(Text) of
        no_table -> find(More);
        Found -> Found
    end.

%% (OTP 29 does not load what OTP 25 makes of a pattern <<"text", _/binary>>.)
find1(Text) ->
    case binary:match(Text, <<"#Ref<">>) of
        {0, _} -> by_id(binary_to_list(Text));
        _ -> by_name(Text)
    end.

by_id(Text) ->
    try list_to_ref(Text) of
        Ref ->
            case [T || T <- ets:all(), ets:info(T, id) =:= Ref] of
                [T] -> {ok, T};
                [] -> no_table
            end
    catch
        error:badarg -> no_table
    end.

by_name(Text) ->
    try binary_to_existing_atom(Text, utf8) of
        Name ->
            case ets:info(Name, id) of
                undefined -> unnamed([T || T <- ets:all(), is_reference(T), ets:info(T, name) =:= Name]);
                _ -> {ok, Name}
            end
    catch
        error:badarg -> no_table
    end.

unnamed([]) -> no_table;
unnamed([T]) -> {ok, T};
unnamed(Ts) -> {several, [id(T) || T <- lists:sublist(Ts, 10)]}.

%% The match specification, and how many objects a step of it looks at. What
%% does not match is `skip`, so that a step ends although nothing matches; a
%% pattern with a whole key needs no scan.
steps(T, Row, none, Limit) -> {[{'_', [], ['$_']}], min(Limit, step(T, Row))};
steps(T, Row, {term, P}, _) ->
    Spec = case is_tuple(P) andalso tuple_size(P) >= element(10, Row) andalso whole(element(element(10, Row), P)) of
               true -> [{P, [], ['$_']}];
               false -> [{P, [], ['$_']}, {'_', [], [skip]}]
           end,
    {Spec, step(T, Row)}.

step(_, Row) ->
    Average = element(7, Row) div max(1, element(6, Row)) + 1,
    max(1, min(?CHUNK, ?STEP_BYTES div Average)).

whole('_') -> false;
whole(A) when is_atom(A) -> hd(atom_to_list(A) ++ " ") =/= $$;
whole([H | T]) -> whole(H) andalso whole(T);
whole(T) when is_tuple(T) -> whole(tuple_to_list(T));
whole(M) when is_map(M) -> false; % a map in a pattern matches larger ones
whole(_) -> true.

%% A place in a table: {Continuation | start, Skip}. Skip objects after the
%% continuation were seen already.
from(_, <<>>, _) -> {start, 0};
from(T, Bin, Spec) ->
    case decoded({term, Bin}) of
        {term, {start, Skip}} when is_integer(Skip), Skip >= 0 -> {start, Skip};
        {term, {Cont, Skip}} when tuple_size(Cont) > 1, is_integer(Skip), Skip >= 0 ->
            case element(1, Cont) =:= T orelse element(1, Cont) =:= ets:info(T, id) of
                true -> {ets:repair_continuation(Cont, Spec), Skip};
                false -> throw(cursor)
            end;
        _ -> throw(cursor)
    end.

cursor(done) -> <<>>;
cursor(Place) -> term_to_binary(Place).

%% page(Place, Job, N) -> {[Object], Scanned, Place | done}
page({Cont, Skip}, Job, N) -> page(Cont, Skip, {Cont, Skip}, Job, N, [], 0, now_native()).

%% Anchor is the place to go on from: a continuation that may travel, and how many
%% objects were seen since.
page(Cont, Skip, {At, Seen}, {T, Spec, Step, Bytes, Until, Share} = Job, Room, Acc, Scanned, T0) ->
    case select(Cont, T, Spec, Step) of
        '$end_of_table' ->
            {lists:reverse(Acc), Scanned, done};
        {Objects, Next} ->
            case take(drop(Objects, Skip), Room, Bytes, Acc, 0) of
                {Acc1, _, Used, []} when Next =:= '$end_of_table' ->
                    {lists:reverse(Acc1), Scanned + Used, done};
                {Acc1, 0, Used, [_ | _]} ->
                    {lists:reverse(Acc1), Scanned + Used, {At, Seen + Used}};
                {Acc1, Room1, Used, []} ->
                    Left = max(0, Skip - length(Objects)),
                    Anchor = case erlang:external_size(Next) =< ?CURSOR of
                                 true -> {Next, Left};
                                 false -> {At, Seen + Used}
                             end,
                    case Room1 =:= 0 orelse erlang:monotonic_time(millisecond) >= Until of
                        true -> {lists:reverse(Acc1), Scanned + Used, Anchor};
                        false -> page(Next, Left, Anchor, Job, Room1, Acc1, Scanned + Used, ?HELPER:yield(T0, Share))
                    end
            end
    end.

select(start, T, Spec, Step) -> ets:select(T, Spec, Step);
select('$end_of_table', _, _, _) -> '$end_of_table';
select(Cont, _, _, _) -> ets:select(Cont).

drop(Objects, 0) -> Objects;
drop([_ | Objects], N) -> drop(Objects, N - 1);
drop([], _) -> [].

%% take(Objects, Room, Bytes, Acc, Used) -> {Acc, Room, Used, Rest}
take([_ | _] = Rest, 0, _, Acc, Used) -> {Acc, 0, Used, Rest};
take([skip | Os], Room, Bytes, Acc, Used) -> take(Os, Room, Bytes, Acc, Used + 1);
take([O | Os], Room, Bytes, Acc, Used) -> take(Os, Room - 1, Bytes, [cut(O, Bytes) | Acc], Used + 1);
take([], Room, _, Acc, Used) -> {Acc, Room, Used, []}.

%% -------------------------------------------------------------------- Mnesia

%% mnesia(Limit) -> absent | {State, DbNodes, RunningNodes, Directory | [], Total, [Row]}
%% State: yes, no, starting, stopping. Row: {Table, Type, Storage, Size, Bytes,
%% [{Storage, [Node]}], ReadFrom, LoadNode}, all by name. Nothing here asks
%% another node or loads Mnesia.
mnesia(Limit) ->
    quiet(0),
    case erlang:module_loaded(mnesia) of
        false -> absent;
        true ->
            case mnesia:system_info(is_running) of
                yes ->
                    Tables = lists:sort(mnesia:system_info(tables)),
                    Dir = case mnesia:system_info(use_dir) of
                              true -> unicode:characters_to_binary(mnesia:system_info(directory));
                              false -> []
                          end,
                    {yes, mnesia:system_info(db_nodes), mnesia:system_info(running_db_nodes), Dir,
                     length(Tables), [R || T <- lists:sublist(Tables, Limit), R <- mnesia_row(T)]};
                State ->
                    {State, [], [], [], 0, []}
            end
    end.

mnesia_row(T) ->
    try
        Get = fun(K) -> mnesia:table_info(T, K) end,
        Copies = [{K, Nodes} || K <- [ram_copies, disc_copies, disc_only_copies], Nodes <- [Get(K)], Nodes =/= []],
        Storage = Get(storage_type),
        Unit = case Storage of disc_only_copies -> 1; _ -> erlang:system_info(wordsize) end,
        [{T, Get(type), printed(Storage), Get(size), Get(memory) * Unit, Copies, Get(where_to_read),
          try Get(load_node) catch _:_ -> unknown end}]
    catch
        _:_ -> [] % deleted meanwhile
    end.

printed(Storage) when is_atom(Storage) -> Storage;
printed({ext, Alias, _}) -> Alias;
printed(_) -> unknown.

%% ------------------------------------------------------------ budget, cutting

ets_count() ->
    try erlang:system_info(ets_count)
    catch error:badarg -> 10000
    end.

quiet(Words) ->
    process_flag(max_heap_size, #{size => 8 * 1024 * 1024 + Words, kill => true, error_logger => false}).

now_native() -> erlang:monotonic_time().

%% cut(Term, Bytes): what would print as about so many bytes; the rest is '...'.
%% -> {Term, whether it is cut}
cut(Term, Bytes) ->
    {Cut, Left} = cut1(Term, Bytes),
    {Cut, Left =< 0}.

cut1(_, Left) when Left =< 0 -> {'...', 0};
cut1(B, Left) when is_binary(B), byte_size(B) > Left -> {binary:copy(binary:part(B, 0, Left)), 0};
cut1(B, Left) when is_binary(B) -> {B, Left - 1 - byte_size(B)};
cut1(B, Left) when is_bitstring(B), bit_size(B) > 8 * Left -> {'...', 0};
cut1(F, Left) when is_function(F) ->
    case erts_debug:flat_size(F) > 1000 of
        true -> {'...', Left - 1};
        false -> {F, Left - 1}
    end;
cut1(I, Left) when is_integer(I), (I > 1 bsl 8192 orelse I < -(1 bsl 8192)) ->
    {'...', Left - 1};
cut1([_ | _] = L, Left) -> cut_list(L, Left - 1, []);
cut1(T, Left) when is_tuple(T), tuple_size(T) =< Left ->
    {Es, Left1} = cut_elems(tuple_to_list(T), Left - 1, []),
    {list_to_tuple(Es), Left1};
cut1(T, Left) when is_tuple(T) ->
    {Es, _} = cut_elems([element(I, T) || I <- lists:seq(1, Left)], Left - 1, []),
    {list_to_tuple(Es ++ ['...']), 0};
cut1(M, Left) when is_map(M) -> cut_map(maps:next(maps:iterator(M)), Left - 1, []);
cut1(T, Left) -> {T, Left - 1}.

cut_list([H | T], Left, Acc) when Left > 0 ->
    {H1, Left1} = cut1(H, Left),
    cut_list(T, Left1, [H1 | Acc]);
cut_list([], Left, Acc) -> {lists:reverse(Acc), Left};
cut_list([_ | _], Left, Acc) -> {lists:reverse(Acc, '...'), Left};
cut_list(Tail, Left, Acc) ->
    {Tail1, Left1} = cut1(Tail, Left),
    {lists:reverse(Acc, Tail1), Left1}.

cut_elems([E | Es], Left, Acc) ->
    {E1, Left1} = cut1(E, Left),
    cut_elems(Es, Left1, [E1 | Acc]);
cut_elems([], Left, Acc) -> {lists:reverse(Acc), Left}.

cut_map({K, V, Iter}, Left, Acc) when Left > 0 ->
    {K1, Left1} = cut1(K, Left),
    {V1, Left2} = cut1(V, Left1),
    cut_map(maps:next(Iter), Left2, [{K1, V1} | Acc]);
cut_map(none, Left, Acc) -> {maps:from_list(Acc), Left};
cut_map(_, Left, Acc) -> {maps:from_list([{'...', '...'} | Acc]), Left}.
