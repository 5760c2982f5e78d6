defmodule Koma.Faults.ClusterTLSTest do
  use Koma.ClusterCase, async: false

  @moduletag timeout: 180_000

  test "with TLS between the peers jobs run; a peer without it, though it has the cookie, stays outside",
       context do
    names = names(context, ~w(a w x))
    args = tls(context.dir)
    a = start_peer(context, names, 0, roles: [:gateway], models: [], args: args)
    w = start_peer(context, names, 1, roles: [:worker], args: args)
    await_cluster([a, w], 1)

    events =
      await_end(a, submit!(a, %{"steps" => 3, "seed" => 1, "output_bytes" => 300_000})["id"])

    assert %{type: "completed"} = List.last(events)
    numbers = Enum.map(events, & &1.seq)
    assert numbers == Enum.to_list(1..length(events))

    x = start_peer(context, names, 2, models: [])
    eventually(fn -> log(x) =~ "cannot be connected" end)
    assert call(x, Koma.Cluster, :peers, []) == []
    assert call(a, Koma.Cluster, :peers, []) == [Enum.at(names, 1)]
  end

  # An authority and one certificate, as docs/cluster.md makes them.
  defp tls(dir) do
    openssl(dir, ~w(req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=koma-authority
      -keyout ca.key -out ca.pem))

    openssl(dir, ~w(req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1
      -addext subjectAltName=DNS:127.0.0.1 -keyout peer.key -out peer.csr))

    openssl(dir, ~w(x509 -req -days 2 -in peer.csr -CA ca.pem -CAkey ca.key -CAcreateserial
      -copy_extensions copy -out peer.pem))

    file = Path.join(dir, "tls.conf")
    path = fn name -> dir |> Path.join(name) |> String.to_charlist() end

    common = [
      certfile: path.("peer.pem"),
      keyfile: path.("peer.key"),
      cacertfile: path.("ca.pem")
    ]

    common = common ++ [verify: :verify_peer]
    server = common ++ [fail_if_no_peer_cert: true]
    File.write!(file, :io_lib.format("~p.~n", [[server: server, client: common]]))
    ['-proto_dist', 'inet_tls', '-ssl_dist_optfile', String.to_charlist(file)]
  end

  defp openssl(dir, arguments) do
    {output, status} = System.cmd("openssl", arguments, cd: dir, stderr_to_stdout: true)
    assert status == 0, output
  end
end
