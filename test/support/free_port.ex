defmodule Koma.FreePort do
  @moduledoc "A port for a server that cannot be told to take any free one."

  @doc "A TCP port on 127.0.0.1 that nobody listens on now."
  @spec take() :: :inet.port_number()
  def take do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :ok = :gen_tcp.close(socket)
    port
  end
end
