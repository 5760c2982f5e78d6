defmodule Koma.Redis.Scripts do
  @moduledoc """
  The Lua scripts of `priv/redis`, read when this module is compiled: each is one atomic step.
  Every script begins with `prelude.lua`, the functions that several of them need.
  """

  @folder Path.expand("../../../priv/redis", __DIR__)
  @names ~w(put append adopt forget discard renew check sweep aside mend keep find)a

  for name <- [:prelude | @names] do
    @external_resource Path.join(@folder, "#{name}.lua")
  end

  @prelude File.read!(Path.join(@folder, "prelude.lua"))
  @sources Map.new(@names, &{&1, @prelude <> File.read!(Path.join(@folder, "#{&1}.lua"))})
  @digests Map.new(@sources, fn {name, source} ->
             {name, Base.encode16(:crypto.hash(:sha, source), case: :lower)}
           end)

  @type name ::
          :put
          | :append
          | :adopt
          | :forget
          | :discard
          | :renew
          | :check
          | :sweep
          | :aside
          | :mend
          | :keep
          | :find

  @doc "The commands that make the scripts known to Redis."
  @spec load() :: [Koma.Redis.command()]
  def load, do: for({_name, source} <- @sources, do: ["SCRIPT", "LOAD", source])

  @doc "The SHA-1 by which Redis knows a script."
  @spec digest(name) :: String.t()
  def digest(name), do: Map.fetch!(@digests, name)
end
