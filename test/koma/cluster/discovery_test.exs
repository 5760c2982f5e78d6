defmodule Koma.Cluster.DiscoveryTest do
  use ExUnit.Case, async: false

  alias Koma.Cluster.Discovery

  test "a list names every other peer once" do
    list = ["koma@b", "koma@a", "koma@self", "koma@b"]
    assert Discovery.peers(list, nil, "koma@self") == [:koma@a, :koma@b]
  end

  describe "DNS:" do
    setup do
      server = start_name_server()
      before = for key <- [:nameservers, :lookup], do: {key, :inet_db.res_option(key)}
      # Else it is read again, and what is set here is overwritten.
      :ok = :inet_db.set_resolv_conf('')
      :inet_db.set_lookup([:dns])
      :inet_db.res_option(:nameservers, [{{127, 0, 0, 1}, server}])
      on_exit(fn -> :inet_db.set_resolv_conf('/etc/resolv.conf') end)
      on_exit(fn -> for {key, value} <- before, do: restore(key, value) end)
      :ok
    end

    test "A and AAAA records are peers of the same short name" do
      peers = Discovery.peers(["koma@fixed"], "koma.example", "koma@10.0.0.2")
      assert peers == [:"koma@10.0.0.1", :"koma@fd00::1", :koma@fixed]
    end

    test "SRV records are peers by their targets" do
      assert Discovery.peers([], "_koma._tcp.example", "koma@b.example") == [:"koma@a.example"]
    end

    test "a name that does not exist, or a name server that is away, is nobody" do
      assert Discovery.peers([], "nobody.example", "koma@b") == []
    end
  end

  defp restore(:lookup, value), do: :inet_db.set_lookup(value)
  defp restore(:nameservers, value), do: :inet_db.res_option(:nameservers, value)

  # A real name server on a free port, for three names.
  defp start_name_server do
    {:ok, socket} = :gen_udp.open(0, [:binary, active: false, ip: {127, 0, 0, 1}])
    {:ok, port} = :inet.port(socket)
    pid = start_supervised!({Task, fn -> answer(socket) end})
    :ok = :gen_udp.controlling_process(socket, pid)
    port
  end

  defp answer(socket) do
    {:ok, {address, port, query}} = :gen_udp.recv(socket, 0)
    {:ok, message} = :inet_dns.decode(query)
    [question] = :inet_dns.msg(message, :qdlist)
    name = :inet_dns.dns_query(question, :domain)
    type = :inet_dns.dns_query(question, :type)
    header = message |> :inet_dns.msg(:header) |> :inet_dns.make_header(:qr, true)

    answers =
      for data <- records(to_string(name), type) do
        :inet_dns.make_rr(domain: name, type: type, class: :in, ttl: 1, data: data)
      end

    reply = :inet_dns.make_msg(header: header, qdlist: [question], anlist: answers)
    :ok = :gen_udp.send(socket, address, port, :inet_dns.encode(reply))
    answer(socket)
  end

  defp records("koma.example", :a), do: [{10, 0, 0, 1}, {10, 0, 0, 2}]
  defp records("koma.example", :aaaa), do: [{0xFD00, 0, 0, 0, 0, 0, 0, 1}]

  defp records("_koma._tcp.example", :srv),
    do: [{0, 0, 9100, 'a.example'}, {0, 0, 9100, 'b.example'}]

  defp records(_name, _type), do: []
end
