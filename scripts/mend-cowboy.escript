#!/usr/bin/env escript
%% Mends five faults of the Cowboy that setup unpacks: mend-cowboy.escript FOLDER, where FOLDER holds the
%% folders cowboy-* and cowlib-*.
%%
%% Debian has no newer version for this Erlang, and no option switches these off. So two modules are
%% compiled again from the code that their debug information holds, with a few functions changed.
%%
%% 1. Cowboy 2.8 keeps the fragments of an HTTP/2 header block in memory without a bound (a flood of
%%    CONTINUATION frames, CERT/CC VU#421644). HTTP/2 without TLS is taken out: a connection that begins
%%    with it is answered 400, as Cowboy does below TLS, and a request to upgrade to it is an ordinary
%%    HTTP/1.1 request, as RFC 9110 7.8 allows.
%% 2. Cowlib 2.9 waits for more where the size of a chunk is no number, and keeps all that comes. Here
%%    the line of a size has at most 256 bytes and is as RFC 9112 7.1 has it; trailers are refused.
%% 3. Cowboy takes a content-length beside a transfer-encoding, and a transfer-encoding of HTTP/1.0, of
%%    which a proxy in front may believe something else (RFC 9112 6.1 and 6.3). Both are answered 400.
%% 4. Cowboy bounds how many names of headers there are, but not how often one name comes, so that a head
%%    has no bound. Here all headers together have at most 32 KiB; beyond, the answer is 431.
%% 5. Cowboy starts a process for each request of a thousand that are sent at once ("pipelining"). Here it
%%    takes 4, answers them, the last one with `connection: close`, and closes, as RFC 9112 9.3.2 allows.
-mode(compile).

main([Folder]) ->
    mend(Folder, "cowboy-*/ebin/cowboy_http.beam", 5, fun http1/1),
    mend(Folder, "cowlib-*/ebin/cow_http_te.beam", 2, fun chunks/1).

mend(Folder, Pattern, Expected, Change) ->
    [Beam] = filelib:wildcard(filename:join(Folder, Pattern)),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Beam, [abstract_code]),
    Changed = lists:flatmap(Change, Forms),
    %% Each function that is meant is there, and was changed.
    Expected = length(Forms -- Changed),
    {ok, _Module, Binary} = compile:forms(Changed, [debug_info]),
    ok = file:write_file(Beam ++ ".new", Binary),
    ok = file:rename(Beam ++ ".new", Beam).

http1({function, Line, is_http2_upgrade, 2, _Clauses}) ->
    Any = {var, Line, '_'},
    [{function, Line, is_http2_upgrade, 2, [{clause, Line, [Any, Any], [], [{atom, Line, false}]}]}];
http1({function, Line, http2_upgrade, 2, Clauses}) ->
    [{function, Line, http2_upgrade, 2, secure(Clauses)}];
http1({function, Line, request, Arity, Clauses}) ->
    [{function, Line, request, Arity, one_length(Clauses)}];
http1({function, Line, parse_header, Arity, Clauses}) ->
    [{function, Line, parse_header, Arity, bounded(Clauses)}];
http1({function, Line, parse, 2, [Empty, Discarded | Clauses]}) ->
    {function, _, _, _, [Crowded]} = function(
        "parse(_, State = #state{in_state = #ps_request_line{}, in_streamid = Next, streams = Streams})"
        "    when length(Streams) >= 4 ->"
        "    loop(State#state{buffer = <<>>, last_streamid = Next - 1})."
    ),
    [{function, Line, parse, 2, [Empty, Discarded, Crowded | Clauses]}];
http1(Form) ->
    [Form].

%% The number of headers counts as too large where all of them together are.
bounded({call, _, {remote, _, {atom, _, maps}, {atom, _, size}}, [_Headers]}) ->
    expression(
        "case maps:fold(fun(Name, Value, Sum) -> Sum + byte_size(Name) + byte_size(Value) end, 0, Headers) of"
        "    Bytes when Bytes > 32768 -> MaxHeaders;"
        "    _ -> maps:size(Headers)"
        "end."
    );
bounded(Parts) when is_tuple(Parts) -> list_to_tuple(bounded(tuple_to_list(Parts)));
bounded(Parts) when is_list(Parts) -> [bounded(Part) || Part <- Parts];
bounded(Other) -> Other.

%% What reads the transfer-encoding fails, and is answered 400, where there is another length as well.
one_length({call, _, {remote, _, {atom, _, cow_http_hd}, {atom, _, parse_transfer_encoding}}, [_Header]}) ->
    expression(
        "case Headers0 of"
        "    #{<<\"content-length\">> := _} -> error(two_lengths);"
        "    _ when Version =:= 'HTTP/1.0' -> error(no_transfer_encoding);"
        "    _ -> cow_http_hd:parse_transfer_encoding(TransferEncoding0)"
        "end."
    );
one_length(Parts) when is_tuple(Parts) -> list_to_tuple(one_length(tuple_to_list(Parts)));
one_length(Parts) when is_list(Parts) -> [one_length(Part) || Part <- Parts];
one_length(Other) -> Other.

%% `Transport:secure()` becomes `true`: what follows is the answer to HTTP/2 below TLS.
secure({call, Line, {remote, _, {var, _, 'Transport'}, {atom, _, secure}}, []}) -> {atom, Line, true};
secure(Parts) when is_tuple(Parts) -> list_to_tuple(secure(tuple_to_list(Parts)));
secure(Parts) when is_list(Parts) -> [secure(Part) || Part <- Parts];
secure(Other) -> Other.

chunks({function, _Line, chunked_len, 4, _Clauses}) ->
    [
        function(
            "chunked_len(Data, Streamed, Acc, 0) ->"
            "    case binary:match(binary:part(Data, 0, min(byte_size(Data), 256)), <<10>>) of"
            "        nomatch when byte_size(Data) < 256 -> more;"
            "        {At, 1} ->"
            "            <<Line:At/binary, 10, Rest/bits>> = Data,"
            "            {match, [Size]} = re:run(Line, \"^([0-9A-Fa-f]{1,12})[ \\t]*(?:;[^\\r]*)?\\r$\","
            "                [dollar_endonly, {capture, all_but_first, binary}]),"
            "            chunk(binary_to_integer(Size, 16), Rest, Streamed, Acc)"
            "    end."
        ),
        function(
            "chunk(0, <<13, 10, Rest/bits>>, _, <<>>) -> {done, no_trailers, Rest};"
            "chunk(0, <<13, 10, Rest/bits>>, _, Acc) -> {done, Acc, no_trailers, Rest};"
            "chunk(0, <<13>>, _, _) -> more;"
            "chunk(0, <<>>, _, _) -> more;"
            "chunk(Size, Rest, Streamed, Acc) when Size > 0 -> {next, Rest, {Size + 2, Streamed}, Acc}."
        )
    ];
chunks({function, _Line, skip_chunk_ext, 5, _Clauses}) ->
    [];
chunks(Form) ->
    [Form].

function(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

expression(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, [Expression]} = erl_parse:parse_exprs(Tokens),
    Expression.
