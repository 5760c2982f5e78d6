defmodule Koma.Cluster.Discovery do
  @moduledoc """
  Which peers there should be: a fixed list, or what DNS says.

  | `KOMA_PEERS_DNS` | is asked for | the peers are |
  |---|---|---|
  | `koma.example` | A and AAAA | `<own short name>@<address>` |
  | `_koma._tcp.example` | SRV | `<own short name>@<target>` |
  """

  # The name server may be away; peers that are connected stay so.
  @timeout_ms 3_000

  @doc "The names of the peers but for this one, sorted; DNS is asked anew each time."
  @spec peers([String.t()], dns :: String.t() | nil, self :: String.t()) :: [node]
  def peers(list, dns, self) do
    [short, _host] = String.split(self, "@")
    found = for host <- hosts(dns), do: "#{short}@#{host}"

    (list ++ found)
    |> Enum.uniq()
    |> List.delete(self)
    |> Enum.sort()
    |> Enum.map(&String.to_atom/1)
  end

  defp hosts(nil), do: []
  defp hosts("_" <> _ = service), do: for(target <- lookup(service, :srv), do: target(target))

  defp hosts(name) do
    for type <- [:a, :aaaa], address <- lookup(name, type), do: address(address)
  end

  defp lookup(name, type) do
    :inet_res.lookup(String.to_charlist(name), :in, type, [], @timeout_ms)
  end

  @doc false
  @spec target({integer, integer, :inet.port_number(), charlist}) :: String.t()
  def target({_priority, _weight, _port, target}), do: target |> to_string() |> no_dot()

  @doc false
  @spec address(:inet.ip_address()) :: String.t()
  def address(address), do: address |> :inet.ntoa() |> to_string()

  defp no_dot(name), do: String.trim_trailing(name, ".")
end
