defmodule Koma.Cache.Fingerprint do
  @moduledoc """
  What makes two requests the same: the task, the checkpoint (its family, digest and number
  format), the parameters with their defaults filled in, and the digests of the inputs. The
  fingerprint is the SHA-256 of these in one canonical form: names sorted, every part with its
  kind and length, numbers by value. Pure.
  """

  @type t :: <<_::256>>

  @doc "The fingerprint of a request; `params` are checked and complete."
  @spec of(
          task :: String.t(),
          checkpoint :: String.t(),
          params :: map,
          inputs :: %{String.t() => String.t()}
        ) :: t
  def of(task, checkpoint, params, inputs) do
    :crypto.hash(:sha256, canonical([task, checkpoint, params, inputs]))
  end

  defp canonical(map) when is_map(map) do
    pairs =
      map |> Enum.sort() |> Enum.map(fn {name, value} -> [canonical(name), canonical(value)] end)

    part("m", pairs)
  end

  defp canonical(list) when is_list(list), do: part("l", Enum.map(list, &canonical/1))
  defp canonical(text) when is_binary(text), do: part("s", text)

  # 3 and 3.0 are the same number to JSON and to every runner.
  defp canonical(number) when is_float(number) and trunc(number) == number do
    canonical(trunc(number))
  end

  defp canonical(number) when is_float(number), do: part("f", Float.to_string(number))
  defp canonical(number) when is_integer(number), do: part("i", Integer.to_string(number))
  defp canonical(other) when other in [true, false, nil], do: part("a", Atom.to_string(other))

  defp part(kind, content), do: [kind, Integer.to_string(IO.iodata_length(content)), ":", content]
end
