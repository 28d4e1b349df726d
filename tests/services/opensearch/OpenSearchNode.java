import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.join.ParentJoinPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/**
 * Runs one OpenSearch node for the tests until the process is asked to end. Its one argument is the node's home, whose
 * config/opensearch.yml holds the settings. OpenSearch's own launcher comes with no Maven artifact.
 */
public final class OpenSearchNode {
    private static final List<Class<? extends Plugin>> PLUGINS = List.of(
            Netty4Plugin.class, ReindexPlugin.class, ParentJoinPlugin.class, MapperExtrasPlugin.class,
            CommonAnalysisPlugin.class, PainlessPlugin.class);

    /** Node's constructor that takes plug-ins from the class path is for subclasses only. */
    private static final class ClassPathNode extends Node {
        ClassPathNode(Environment environment, Collection<Class<? extends Plugin>> plugins) {
            super(environment, plugins, false);
        }
    }

    private OpenSearchNode() {}

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        Settings settings = Settings.builder().put("path.home", home).build();
        Environment environment =
                InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "node");
        Node node = new ClassPathNode(environment, PLUGINS);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception failure) {
                failure.printStackTrace();
            }
        }));
        node.start();
        // The node's own threads do not keep the process alive.
        Thread.currentThread().join();
    }
}
