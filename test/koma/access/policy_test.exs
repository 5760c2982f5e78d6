defmodule Koma.Access.PolicyTest do
  use ExUnit.Case, async: true

  import Koma.CoreCase, only: [key: 1, key: 2, secret: 1]

  alias Koma.Access.{KeyFile, Keyring, Policy}
  alias Koma.{Caller, Options}

  describe "without keys" do
    for bind <- ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"] do
      test "everybody on #{bind} is operator, whatever they show" do
        assert {:ok, policy} = Policy.without_keys(Options.new!(bind: unquote(bind)))

        assert {:ok, %Caller{key: nil, roles: [:operator]} = caller} =
                 Policy.authenticate(policy, nil)

        assert Policy.authenticate(policy, "anything") == {:ok, caller}
        assert Policy.valid?(policy, caller)
      end
    end

    for bind <- ["0.0.0.0", "::", "192.168.0.1", "128.0.0.1", "::ffff:10.0.0.1", "nonsense"] do
      test "#{bind} is refused, and with open nobody there is operator" do
        assert {:error, message} = Policy.without_keys(Options.new!(bind: unquote(bind)))
        assert message =~ unquote(bind)
        assert message =~ "KOMA_KEYS_FILE"
        assert {:ok, policy} = Policy.without_keys(Options.new!(bind: unquote(bind), open: true))
        assert {:ok, %Caller{key: nil, roles: []}} = Policy.authenticate(policy, nil)
      end
    end
  end

  describe "with keys" do
    setup do
      {:ok, policy: policy(key("a", "roles=operator") <> key("b"))}
    end

    test "who shows a secret is its key, with its roles", %{policy: policy} do
      assert {:ok, %Caller{key: "a", roles: [:operator]}} =
               Policy.authenticate(policy, secret("a"))

      assert {:ok, %Caller{key: "b", roles: []}} = Policy.authenticate(policy, secret("b"))
    end

    test "no secret, a wrong one, an id, a digest or part of a secret are all unauthorized",
         %{policy: policy} do
      digest = :crypto.hash(:sha256, secret("a"))
      hex = Base.encode16(digest, case: :lower)
      part = binary_part(secret("a"), 0, byte_size(secret("a")) - 1)

      for shown <- [
            nil,
            "",
            "a",
            hex,
            "sha256:" <> hex,
            digest,
            part,
            secret("a") <> " ",
            <<0xFF>>
          ] do
        assert {:error, %{code: "unauthorized"} = error} = Policy.authenticate(policy, shown)
        assert error.value == nil
        assert shown in [nil, "", "a"] or not String.contains?(error.message, shown)
      end
    end

    test "something longer than any key is not even hashed", %{policy: policy} do
      huge = String.duplicate("x", 10_000_000)
      {reductions, answer} = reductions(fn -> Policy.authenticate(policy, huge) end)
      assert {:error, %{code: "unauthorized"}} = answer
      # Hashing so much takes tens of thousands.
      assert reductions < 2_000
    end

    test "both secrets of a key are right while one is being replaced; both are the same key" do
      old = digest("old")
      new = digest("new")
      policy = policy("studio #{old} #{new}")
      assert {:ok, %{key: "studio"} = before} = Policy.authenticate(policy, secret("old"))
      assert {:ok, %{key: "studio"} = later} = Policy.authenticate(policy, secret("new"))
      assert before.credential != later.credential

      policy = policy("studio #{new}")
      assert {:error, _unknown} = Policy.authenticate(policy, secret("old"))
      refute Policy.valid?(policy, before)
      assert Policy.valid?(policy, later)
    end

    test "a caller is no longer valid when its key has gone or has other roles", %{policy: policy} do
      {:ok, caller} = Policy.authenticate(policy, secret("a"))
      assert Policy.valid?(policy, caller)
      assert Policy.valid?(policy(key("a", "roles=operator rate=1")), caller)
      refute Policy.valid?(policy(key("a")), caller)
      refute Policy.valid?(policy(key("b")), caller)
      refute Policy.valid?(policy, %Caller{})
    end

    test "what is looked up is neither a secret nor its digest" do
      {:ok, keys} = KeyFile.parse(key("a"))
      ring = Keyring.new(keys, String.duplicate("b", 32))
      [credential] = Map.keys(ring.secrets)
      digest = :crypto.hash(:sha256, secret("a"))
      assert credential == :crypto.mac(:hmac, :sha256, String.duplicate("b", 32), digest)
      refute Keyring.new(keys, String.duplicate("c", 32)).secrets == ring.secrets
      refute inspect(ring, limit: :infinity) =~ secret("a")
    end
  end

  defp digest(id), do: ~r/sha256:\w+/ |> Regex.run(key(id)) |> hd()

  defp policy(text) do
    {:ok, keys} = KeyFile.parse(text)
    Policy.with_keys(keys, String.duplicate("blind678", 4))
  end

  defp reductions(fun) do
    {:reductions, before} = Process.info(self(), :reductions)
    answer = fun.()
    {:reductions, later} = Process.info(self(), :reductions)
    {later - before, answer}
  end
end
