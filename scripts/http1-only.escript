#!/usr/bin/env escript
%% Takes HTTP/2 without TLS out of the Cowboy that setup unpacks: http1-only.escript EBIN
%%
%% Cowboy 2.8 keeps the fragments of a header block in memory without a bound (a flood of CONTINUATION
%% frames, CERT/CC VU#421644), and no option switches HTTP/2 off. Debian has no newer version for this
%% Erlang, so one module is compiled again from the code that its debug information holds, with two
%% functions changed: a connection that begins with HTTP/2 is answered 400, as Cowboy does below TLS,
%% and a request to upgrade to HTTP/2 is an ordinary HTTP/1.1 request, as RFC 9110 7.8 allows.
main([Ebin]) ->
    Beam = filename:join(Ebin, "cowboy_http.beam"),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Beam, [abstract_code]),
    {ok, cowboy_http, Binary} = compile:forms(changed(Forms), [debug_info]),
    ok = file:write_file(Beam ++ ".new", Binary),
    ok = file:rename(Beam ++ ".new", Beam).

changed(Forms) ->
    Changed = [change(Form) || Form <- Forms],
    2 = length([changed || {Before, After} <- lists:zip(Forms, Changed), Before =/= After]),
    Changed.

change({function, Line, is_http2_upgrade, 2, _Clauses}) ->
    Any = {var, Line, '_'},
    {function, Line, is_http2_upgrade, 2, [{clause, Line, [Any, Any], [], [{atom, Line, false}]}]};
change({function, Line, http2_upgrade, 2, Clauses}) ->
    {function, Line, http2_upgrade, 2, secure(Clauses)};
change(Form) ->
    Form.

%% `Transport:secure()` becomes `true`: what follows is the answer to HTTP/2 below TLS.
secure({call, Line, {remote, _, {var, _, 'Transport'}, {atom, _, secure}}, []}) -> {atom, Line, true};
secure(Parts) when is_tuple(Parts) -> list_to_tuple(secure(tuple_to_list(Parts)));
secure(Parts) when is_list(Parts) -> [secure(Part) || Part <- Parts];
secure(Other) -> Other.
